"""What the losses of a language model are per: characters, bytes or tokens; and the same losses in bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from search.objectives.corpus import Corpus
from search.study.formatting import loss_text

# The user attribute of a study of bytes or tokens; a study without it is of characters.
TEXT_UNIT = "text_unit"
PERPLEXITY = "perplexity"


@dataclass(frozen=True)
class TextUnit:
    """What one prediction of a language model is of.

    Attributes:
        name: "character", "byte" or "token".
        bytes_each: UTF-8 bytes of one, the mean over the text that trials are evaluated on; None for characters, and
            for tokens without a decoder.
    """

    name: str = "character"
    bytes_each: float | None = None

    @property
    def nats(self) -> str:
        """The unit of a loss."""
        return f"nats per {self.name}"

    @property
    def bits(self) -> str:
        """The unit of `as_bits`."""
        return f"bits per {self.bits_of}"

    @property
    def bits_of(self) -> str:
        """What `as_bits` is per: a byte where the bytes are known, which texts of other tokens can be compared by."""
        return self.name if self.bytes_each is None else "byte"

    @property
    def short_bits(self) -> str:
        """The unit of `as_bits` where space is short."""
        return f"bits/{'char' if self.bits_of == 'character' else self.bits_of}"

    @property
    def bits_key(self) -> str:
        """The unit of `as_bits` as a name in JSON, CSV files and data frames."""
        return f"bits_per_{self.bits_of}"

    def as_bits(self, nats: float) -> float:
        """A loss in bits."""
        return nats / math.log(2) / (1 if self.bytes_each is None else self.bytes_each)

    def as_perplexity(self, nats: float) -> float:
        """A loss as perplexity: each prediction is as hard as the choice among so many equally likely ids."""
        try:
            return math.exp(nats)
        except OverflowError:
            return math.inf

    def values(self, nats: float | None) -> dict[str, float | None]:
        """A loss in bits and as perplexity, by name; None without a loss."""
        if nats is None:
            return {self.bits_key: None, PERPLEXITY: None}
        return {self.bits_key: self.as_bits(nats), PERPLEXITY: self.as_perplexity(nats)}

    def in_words(self, nats: float) -> str:
        """A loss in bits and as perplexity, for a sentence."""
        return f"{loss_text(self.as_bits(nats), 4)} {self.bits}, perplexity {perplexity_text(self.as_perplexity(nats))}"


CHARACTERS = TextUnit()


def perplexity_text(value: float | None) -> str:
    """A perplexity with four significant digits."""
    return "" if value is None else f"{value:#.4g}".rstrip(".")


@lru_cache(maxsize=4)  # a decoder takes seconds for millions of tokens
def text_unit_attribute(corpus: Corpus | None, eval_tokens: int | None) -> Mapping[str, Any] | None:
    """What to store of a study's text for `parse_text_unit`; None if it is of characters, or if there is none.

    Args:
        eval_tokens: How many predictions an evaluation makes; None for all of the text.

    Raises:
        CorpusError: The decoder of the text fails.
    """
    if corpus is None or corpus.unit == "character":
        return None
    scored = corpus.validation[: None if eval_tokens is None else eval_tokens + 1]
    total = corpus.vocabulary.count_bytes(scored)
    return {"name": corpus.unit, "bytes_each": None if total is None else total / len(scored)}


def parse_text_unit(stored: Mapping[str, Any] | None) -> TextUnit:
    """The unit of a stored study."""
    return CHARACTERS if stored is None else TextUnit(**stored)
