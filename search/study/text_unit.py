"""What the losses of a language model are per: characters, bytes or tokens; and the same losses in bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from search.objectives.corpus import Corpus

# The user attribute of a study of bytes or tokens; a study without it is of characters.
TEXT_UNIT = "text_unit"


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

    def as_bits(self, nats: float) -> float:
        """A loss in bits."""
        return nats / math.log(2) / (1 if self.bytes_each is None else self.bytes_each)

    def as_perplexity(self, nats: float) -> float:
        """A loss as perplexity: each prediction is as hard as the choice among so many equally likely ids."""
        try:
            return math.exp(nats)
        except OverflowError:
            return math.inf


CHARACTERS = TextUnit()


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
