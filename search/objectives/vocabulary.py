"""What token ids stand for: characters, bytes, or the tokens of a tokenizer. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from search.objectives.errors import CorpusError

Unit = Literal["character", "byte", "token"]
# Token ids of any integer type: int64 in memory for a text, and the type of the file where it is memory-mapped.
Tokens = npt.NDArray[np.integer[Any]]
BYTES = 256
UNKNOWN = "\ufffd"  # the text of an id without one
IDS_PER_CALL = 65_536  # of a decoder, which bounds its memory


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The token ids of a corpus.

    Attributes:
        size: Their number V; ids are below it.
        unit: What one id is.
        texts: The text of each id; empty if they are bytes, or if only a decoder knows.
        decoder: Turns ids into text; None if there is none.
        decoder_name: What it is called in messages.
    """

    size: int
    unit: Unit
    texts: tuple[str, ...] = ()
    decoder: Callable[[list[int]], str] | None = None
    decoder_name: str = ""

    @property
    def can_decode(self) -> bool:
        """Whether ids can be turned into text."""
        return self.unit == "byte" or bool(self.texts) or self.decoder is not None

    @property
    def start(self) -> int:
        """The id that a generated text starts after: a line break, or if there is none 0."""
        if self.unit == "byte":
            return ord("\n")
        return self.texts.index("\n") if "\n" in self.texts else 0

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids into text.

        Raises:
            CorpusError: The decoder fails, or returns something else than text.
        """
        if self.unit == "byte":
            return bytes(ids).decode("utf-8", errors="replace")
        if self.decoder is None:
            known = len(self.texts)
            return "".join(self.texts[index] if index < known else UNKNOWN for index in ids)
        return self._call(self.decoder, list(ids))

    def count_bytes(self, tokens: Tokens) -> int | None:
        """The length of a text in UTF-8 bytes; None if ids cannot be decoded.

        Raises:
            CorpusError: As for `decode`.
        """
        if self.unit == "byte":
            return len(tokens)
        parts = [tokens[at : at + IDS_PER_CALL] for at in range(0, len(tokens), IDS_PER_CALL)]
        if self.texts:
            sizes = np.full(self.size, _size(UNKNOWN), dtype=np.int64)
            sizes[: len(self.texts)] = [_size(text) for text in self.texts]
            return sum(int(sizes[part].sum()) for part in parts)
        if self.decoder is not None:
            return sum(_size(self.decode(part.tolist())) for part in parts)
        return None

    def _call(self, decoder: Callable[[list[int]], str], ids: list[int]) -> str:
        shown = f"{ids[:5]}".replace("]", ", …]" if len(ids) > 5 else "]")
        try:
            text = decoder(ids)
        except (Exception, SystemExit) as error:  # a user's function can raise anything
            raise CorpusError(
                f"decoder {self.decoder_name!r} fails on the ids {shown}: {type(error).__name__}: {error}; it gets a "
                "list of token ids and must return their text"
            ) from error
        if not isinstance(text, str):
            raise CorpusError(
                f"decoder {self.decoder_name!r} returns {type(text).__name__} for the ids {shown}: it must return text"
            )
        return text


def _size(text: str) -> int:
    return len(text.encode("utf-8", errors="surrogatepass"))
