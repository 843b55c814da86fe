"""Reads a text file: UTF-8, regular, not empty. No torch here."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.objectives.errors import CorpusError


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Errors of the file system while a file of a corpus is read, as errors that a user can fix.

    Raises:
        CorpusError: The path is no regular file, or cannot be read.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise CorpusError(f"corpus {str(path)!r} is a folder: name a text file")
        if not stat.S_ISREG(mode):  # reading a pipe waits for a writer, and a device may have no end
            raise CorpusError(f"corpus {str(path)!r} is a pipe or a device: copy the text to a file and name that")
        yield
    except CorpusError:
        raise
    except FileNotFoundError as error:
        raise CorpusError(f"corpus {str(path)!r} does not exist: check the path") from error
    except OSError as error:
        raise CorpusError(f"corpus {str(path)!r} cannot be read: {error.strerror or error}") from error


def read_text(path: Path) -> str:
    """A text file.

    Raises:
        CorpusError: It is missing, a folder, not readable, empty, or not UTF-8.
    """
    with readable(path):
        data = path.read_bytes()
    if not data:
        raise CorpusError(f"corpus {str(path)!r} is empty: name a file with text in it")
    if b"\0" in data:
        raise CorpusError(
            f"corpus {str(path)!r} is binary (it has a NUL byte): name a UTF-8 text file, or train on its bytes with "
            f"bytes:{path}"
        )
    try:
        # Some editors begin a file with a byte order mark, which is no character of the text.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"corpus {str(path)!r} is not UTF-8 (byte {error.start}): convert it to UTF-8, or train on its bytes with "
            f"bytes:{path}"
        ) from error
    if not text:
        raise CorpusError(f"corpus {str(path)!r} is empty: name a file with text in it")
    return text


def sha256_of_file(path: Path) -> str:
    """Hex digest of a file, without reading it into memory."""
    with readable(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
