"""The file that export writes and import reads: a zip with JSON, artifacts, checkpoints and the SHA-256 of each.

study.json              format, version, and the studies: the study and its siblings
0/trials.jsonl          the trials of the first study, one a line; 1/trials.jsonl those of the second, and so on
artifacts/ID            files of finished trials
checkpoints/0/12        the checkpoint of trial 12 of the first study
SHA256SUMS              as the program sha256sum writes it, last
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from search.storage.errors import StorageError
from search.storage.private_files import open_private
from search.storage.schema import DEFINITION
from search.storage.texts import printable

FORMAT, VERSION = "lm-search study", 1
HEAD, SUMS = "study.json", "SHA256SUMS"
ARTIFACTS, CHECKPOINTS = "artifacts/", "checkpoints/"
_BLOCK = 1 << 20
# What zipfile raises for changed bytes of a name, a length, a compression or a flag.
_DAMAGE = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, RuntimeError)
_UPDATE = "update with: pip install -U lm-search"


class ArchiveWriter:
    """Writes an archive; call `close` when it is complete.

    Args:
        path: The file; an existing one is replaced.

    Raises:
        OSError: The file cannot be written; so does each method.
    """

    def __init__(self, path: Path) -> None:
        self._file = open_private(path, "wb")
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED, compresslevel=6)
        self._sums: list[str] = []

    def write_head(self, head: dict[str, Any]) -> None:
        """Write what describes the studies."""
        content = {"format": FORMAT, "version": VERSION, **head}
        self.write(HEAD, [json.dumps(content, indent=1).encode()])

    def write(self, name: str, blocks: Iterable[bytes]) -> int:
        """Write one entry, and return its bytes."""
        digest, size = hashlib.sha256(), 0
        with self._zip.open(_entry(name), "w", force_zip64=True) as entry:
            for block in blocks:
                entry.write(block)
                digest.update(block)
                size += len(block)
        self._sums.append(f"{digest.hexdigest()}  {name}\n")
        return size

    def copy(self, name: str, source: BinaryIO) -> int:
        """Write one entry with the content of a file, and return its bytes."""
        return self.write(name, iter(lambda: source.read(_BLOCK), b""))

    def close(self, *, complete: bool) -> None:
        """Close the file, with the checksums if it is complete."""
        if complete:
            with self._zip.open(_entry(SUMS), "w", force_zip64=True) as entry:
                entry.writelines(line.encode() for line in self._sums)
        self._zip.close()
        self._file.close()


def _entry(name: str) -> zipfile.ZipInfo:
    # A fixed time: an archive says nothing of the machine that wrote it.
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


class ArchiveReader:
    """Reads an archive whose checksums are right; made by `open_archive`.

    Attributes:
        head: What describes the studies.
        names: The names of its entries.
    """

    def __init__(self, file: zipfile.ZipFile, head: dict[str, Any]) -> None:
        self._zip, self.head = file, head
        self.names = frozenset(file.namelist())

    def records(self, index: int) -> Iterator[dict[str, Any]]:
        """The trials of a study, one by one."""
        with self._zip.open(f"{index}/trials.jsonl") as lines:
            for line in lines:
                yield json.loads(line)

    def open(self, name: str) -> IO[bytes]:
        """An entry, to read."""
        return self._zip.open(name)

    def size(self, name: str) -> int:
        """The bytes of an entry."""
        return self._zip.getinfo(name).file_size


@contextmanager
def open_archive(path: Path) -> Iterator[ArchiveReader]:
    """Open an archive and check it from the first byte to the last.

    Raises:
        StorageError: It cannot be read, is no archive of ours, is damaged, or a newer version wrote it.
    """
    shown = printable(path)
    try:
        file = zipfile.ZipFile(path)
    except OSError as error:
        raise StorageError(f"cannot read {shown}: {error.strerror}; give the file of an exported study") from error
    except _DAMAGE as error:
        raise _damaged(shown, str(error)) from error
    with file:
        head = _head(file, shown)
        _check(file, shown)
        yield ArchiveReader(file, head)


def _damaged(shown: str, why: str) -> StorageError:
    return StorageError(f"{shown} is damaged or no exported study ({why}); nothing was imported: copy it again")


def _head(file: zipfile.ZipFile, shown: str) -> dict[str, Any]:
    try:
        head = json.loads(file.read(HEAD))
        is_ours = head["format"] == FORMAT
        version = int(head["version"])
        studies = head["studies"] if is_ours and version <= VERSION else []
        is_whole = all(isinstance(each["name"], str) and DEFINITION in each["user_attrs"] for each in studies)
    except (*_DAMAGE, TypeError, OSError) as error:  # a wrong position in the file is an OSError
        raise _damaged(shown, f"{HEAD}: {type(error).__name__}") from error
    if not is_ours:
        raise _damaged(shown, f"its format is {printable(head['format'])}")
    if version > VERSION:
        raise StorageError(f"{shown} was written by a newer lm-search (format {version}, here {VERSION}); {_UPDATE}")
    if not is_whole or not studies:
        raise _damaged(shown, f"{HEAD}: it describes no study")
    found: dict[str, Any] = head
    return found


def _check(file: zipfile.ZipFile, shown: str) -> None:
    names = file.namelist()
    try:
        lines = [line.split("  ", 1) for line in file.read(SUMS).decode().splitlines()]
        sums = {name: checksum for checksum, name in lines}
        if sorted(names) != sorted([*sums, SUMS]):
            raise _damaged(shown, "an entry is missing or too many")
        for name in sums:
            digest = hashlib.sha256()
            with file.open(name) as entry:
                while block := entry.read(_BLOCK):
                    digest.update(block)
            if digest.hexdigest() != sums[name]:
                raise _damaged(shown, f"the checksum of {name} differs")
    except (*_DAMAGE, OSError) as error:
        raise _damaged(shown, f"{type(error).__name__}: {error}") from error
