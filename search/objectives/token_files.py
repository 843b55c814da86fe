"""Files of token ids, memory-mapped: .bin as nanoGPT and llm.c write it, .npy, and any file as bytes. No torch here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import numpy as np

from search.objectives.errors import CorpusError
from search.objectives.text_file import readable
from search.objectives.vocabulary import Tokens

ElementType = Literal["uint16", "uint32"]
# The header of llm.c and modded-nanogpt: 256 int32, of which the first three are the magic number, the version, and how
# many uint16 tokens follow.
HEADER_INTS, MAGIC, VERSION = 256, 20240520, 1
TOKENS_PER_CHUNK = 1 << 22
# Ids from here on without a given vocab_size are taken for a file that is read in the wrong type.
MOST_IDS = 1 << 24
LOOKED_AT = 1 << 16  # the ids at the start of a file that show how wide it was written
ENOUGH = 64  # ids, to tell
# The largest vocabularies have about 260,000 ids, the frequent ones first.
LARGE_MEDIAN = 1 << 18


def map_bytes(path: Path) -> Tokens:
    """Any file as its bytes, (N,) uint8.

    Raises:
        CorpusError: It cannot be read, or is empty.
    """
    with readable(path):
        _check_size(path)
        return np.memmap(path, dtype=np.uint8, mode="r")


def map_bin(path: Path, element_type: ElementType | None = None) -> Tokens:
    """A file of nothing but tokens, or of the header of llm.c and tokens.

    Args:
        element_type: How wide a token is; None if nothing says so, which is uint16.

    Returns:
        (N,) uint16 or uint32.

    Raises:
        CorpusError: It cannot be read, is empty or cut off, or is not of this type.
    """
    with readable(path):
        size = _check_size(path)
        header = np.fromfile(path, dtype="<i4", count=3) if size >= 4 * HEADER_INTS else np.zeros(3, dtype="<i4")
        has_header = int(header[0]) == MAGIC
        if has_header:
            _check_header(path, header.tolist(), size, element_type)
        kind = np.dtype("<u2" if has_header else {"uint32": "<u4"}.get(element_type or "", "<u2"))
        offset = 4 * HEADER_INTS if has_header else 0
        if (size - offset) % kind.itemsize:
            raise CorpusError(
                f"corpus {str(path)!r} has {size} bytes, which is no whole number of {kind.name} tokens: it is cut "
                'off or of another type; write it anew, or name its type in meta.json: {"dtype": "uint32"}'
            )
        tokens = np.memmap(path, dtype=kind, mode="r", offset=offset)
    (_check_no_uint32 if kind.itemsize == 2 else _check_no_uint16)(path, tokens)
    return tokens


def map_npy(path: Path) -> Tokens:
    """An array of integers that numpy.save wrote, (N,) of any integer type.

    Raises:
        CorpusError: It cannot be read, is empty, or is not an array of integers with one axis.
    """
    with readable(path):
        _check_size(path)
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, TypeError, SyntaxError) as error:  # what a broken header raises
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CorpusError(
                f"corpus {str(path)!r} is no .npy file of numbers ({reason}): write it with numpy.save(path, tokens)"
            ) from error
    shape = getattr(array, "shape", ())
    if len(shape) != 1:
        raise CorpusError(
            f"corpus {str(path)!r} has shape {shape}: tokens need one axis; write it with "
            "numpy.save(path, tokens.reshape(-1))"
        )
    if array.dtype.kind not in "iu":
        raise CorpusError(
            f"corpus {str(path)!r} holds {array.dtype.name}: tokens are integers; write it with "
            "numpy.save(path, tokens.astype('uint16'))"
        )
    if not array.dtype.isnative:
        raise CorpusError(
            f"corpus {str(path)!r} has the byte order of another machine ({array.dtype.str}): write it with "
            f"numpy.save(path, tokens.astype({array.dtype.name!r}))"
        )
    if not len(array):
        raise CorpusError(f"corpus {str(path)!r} is empty: name a file with tokens in it")
    found: Tokens = array
    return found


def largest_token(path: Path, tokens: Tokens, vocab_size: int | None) -> int:
    """The largest id of a file.

    Args:
        path: The file, for messages.
        tokens: All of them.
        vocab_size: How many ids there are; None if nothing says so.

    Raises:
        CorpusError: An id is below 0, or not below vocab_size.
    """
    largest = 0
    for at in range(0, len(tokens), TOKENS_PER_CHUNK):
        chunk = tokens[at : at + TOKENS_PER_CHUNK]
        lowest, highest = int(chunk.min()), int(chunk.max())
        if lowest < 0:
            position = at + int(chunk.argmin())
            raise CorpusError(f"corpus {str(path)!r} has the token {lowest} at position {position}: ids are 0 or more")
        if highest >= (MOST_IDS if vocab_size is None else vocab_size):
            position = at + int(chunk.argmax())
            raise CorpusError(f"corpus {str(path)!r} has the token {highest} at position {position}{_too(vocab_size)}")
        largest = max(largest, highest)
    return largest


def _too(vocab_size: int | None) -> str:
    if vocab_size is None:
        return (
            ", which no vocabulary has: it may be of another type; name its type in meta.json "
            '({"dtype": "uint16"} or {"dtype": "uint32"}), or its vocab_size'
        )
    return (
        f", but vocab_size is {vocab_size}: give the vocab_size of the tokenizer in meta.json, or prepare the files "
        "with the tokenizer that meta describes"
    )


def _check_size(path: Path) -> int:
    size = path.stat().st_size
    if size == 0:
        raise CorpusError(f"corpus {str(path)!r} is empty: name a file with tokens in it")
    if sys.byteorder != "little" and path.suffix == ".bin":
        raise CorpusError(f"corpus {str(path)!r}: this machine is big-endian, and .bin files are not; use .npy")
    return size


def _check_header(path: Path, header: list[int], size: int, element_type: ElementType | None) -> None:
    _, version, count = header
    if version != VERSION:
        raise CorpusError(
            f"corpus {str(path)!r} has a header of version {version}: only version {VERSION} (uint16) is read; write "
            "the tokens as .npy"
        )
    if element_type == "uint32":
        raise CorpusError(f"corpus {str(path)!r} has a header of uint16 tokens, but meta says uint32: correct meta")
    if count < 1 or 4 * HEADER_INTS + 2 * count != size:
        raise CorpusError(
            f"corpus {str(path)!r} has {size} bytes, but its header says {count} tokens, which take "
            f"{4 * HEADER_INTS + 2 * count}: it is cut off; write it anew"
        )


def _check_no_uint32(path: Path, tokens: Tokens) -> None:
    """Refuse uint32 tokens that are read as uint16: every other value is the upper half of an id, nearly always 0."""
    looked = tokens[: min(LOOKED_AT, len(tokens) // 2 * 2)]
    if len(looked) < ENOUGH:
        return
    lower, upper = (float((looked[at::2] == 0).mean()) for at in (0, 1))
    if upper > 0.5 and lower < 0.1:
        raise CorpusError(
            f"corpus {str(path)!r}: of its first {len(looked)} uint16 values every other one is 0 ({upper:.0%} of "
            'them), so it holds uint32 tokens; say so in meta.json: {"dtype": "uint32"}'
        )


def _check_no_uint16(path: Path, tokens: Tokens) -> None:
    """Refuse uint16 tokens that are read as uint32: nearly every upper half is then an id, and large."""
    looked = tokens[:LOOKED_AT]
    middle = int(np.median(looked))
    if len(looked) >= ENOUGH and middle >= LARGE_MEDIAN:
        raise CorpusError(
            f"corpus {str(path)!r}: half of its first {len(looked)} uint32 values are {middle} or more, which no "
            'vocabulary has, so it holds uint16 tokens; say so in meta.json: {"dtype": "uint16"}'
        )
