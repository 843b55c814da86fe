"""URLs of SQLite files, whose paths may hold any character."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, make_url

from search.storage.errors import StorageError
from search.storage.texts import printable

# Of sqlite3.connect, and of SQLite's own file: URLs.
_DRIVER = frozenset({"timeout", "detect_types", "isolation_level", "check_same_thread", "cached_statements"})
SQLITE_OPTIONS = _DRIVER | {"uri", "mode", "cache", "immutable", "nolock", "vfs"}


def read_sqlite_url(storage: str) -> URL:
    """The URL of a file, whose path may hold "?" and "%"."""
    before, _, after = storage.partition("?")
    options = [option.partition("=") for option in after.split("&")]
    if not all(name.isidentifier() and is_set for name, is_set, _ in options):  # no options: a part of the path
        before, after = storage.replace("?", "%3F"), ""
    elif unknown := {name for name, _, _ in options} - SQLITE_OPTIONS:
        raise StorageError(
            f"the storage has the unknown option {printable(min(unknown))!r}; options of SQLite: "
            f"{', '.join(sorted(SQLITE_OPTIONS))}; write %3F for a question mark in the path"
        )
    url = make_url(f"{before}?{after}" if after else before)
    written, decoded = Path(before.partition("///")[2].replace("%3F", "?")), Path(url.database or "")
    # "%20" is a space in a URL, but a folder or a file can have this name.
    is_written = _exists(written) and not _exists(decoded)
    if is_written or (_exists(written.parent) and not _exists(decoded.parent)):
        url = url.set(database=str(written))
    return url


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file has
        return False
