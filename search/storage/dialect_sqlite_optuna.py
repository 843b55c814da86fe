"""SQLite files of other programs that use Optuna: opened so that nothing changes them; files that are no database."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, event

from search.storage.schema import schema_info

# Bytes 18 and 19 of a file are 2 while its journal is a write-ahead log.
_HEADER_BYTES, _JOURNAL_MODE_AT = 100, 18


class ReadOnlyConnection(sqlite3.Connection):
    """A connection to a file that it cannot write."""


def keep_unchanged(engine: Engine) -> None:
    """Open files without our tables read-only from now on: another connection would change the journal's mode."""
    event.listen(engine, "do_connect", _connect_read_only, insert=True)


def _connect_read_only(
    _dialect: Any, _record: Any, arguments: Sequence[Any], named: Mapping[str, Any]
) -> sqlite3.Connection | None:
    """A connection that cannot write; None for files with our tables, for new files, and for SQLite's own URLs."""
    path = Path(str(arguments[0]))
    if str(path).startswith("file:") or not path.is_file():
        return None
    uri = read_only_uri(path)
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        tables = table_names(connection)
    return (
        None
        if schema_info.name in tables
        else sqlite3.connect(uri, **{**named, "uri": True, "factory": ReadOnlyConnection})
    )


def read_only_uri(path: Path) -> str:
    """SQLite's URL for reading a file: neither the file nor its folder is written."""
    header = b"" if has_log(path) else _head(path, _HEADER_BYTES)
    # Without a log no program has the file open, and a reader would make an empty log.
    is_unused = len(header) == _HEADER_BYTES and header[_JOURNAL_MODE_AT] == 2
    return f"file:{quote(str(path.absolute()))}?{'immutable=1' if is_unused else 'mode=ro'}"


def has_log(path: Path) -> bool:
    """Whether a write-ahead log lies beside a file: it is SQLite's, and a connection may have it open."""
    return path.with_name(path.name + "-wal").exists()


def _head(path: Path, size: int) -> bytes:
    # Only of files without a log: closing a file takes the locks from all connections of this process to it, and then
    # another process deletes the log that they use.
    with path.open("rb") as file:
        return file.read(size)


def table_names(connection: sqlite3.Connection) -> set[str]:
    """The names of the tables."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def journal_advice(path: Path) -> str | None:
    """What to do with a file of Optuna's JournalStorage; None for any other file."""
    try:
        if has_log(path) or not _head(path, 12).startswith(b'{"op_code"'):
            return None
    except (OSError, ValueError):  # a name that no file has
        return None
    copied = path.with_name(path.name + ".db")
    script = (
        "import optuna; from optuna.storages import JournalStorage; "
        "from optuna.storages.journal import JournalFileBackend; "
        f"source = JournalStorage(JournalFileBackend({str(path)!r})); "
        f"[optuna.copy_study(from_study_name=name, from_storage=source, to_storage={f'sqlite:///{copied}'!r}) "
        "for name in optuna.get_all_study_names(source)]"
    )
    return (
        f"{path} is a file of Optuna's JournalStorage, not a database; copy its studies with: "
        f"python -c {shlex.quote(script)}; then give --storage sqlite:///{copied}"
    )
