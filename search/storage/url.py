"""Parses storage URLs, and shows them without passwords."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from search.storage.dialects import DIALECTS, EXAMPLES, backend_name, dialect_of
from search.storage.errors import StorageError
from search.storage.texts import printable

# Of sqlite3.connect, and of SQLite's own file: URLs.
_DRIVER = frozenset({"timeout", "detect_types", "isolation_level", "check_same_thread", "cached_statements"})
SQLITE_OPTIONS = _DRIVER | {"uri", "mode", "cache", "immutable", "nolock", "vfs"}


def parse_url(storage: str) -> URL:
    """Parse a storage URL, choose its driver, and read its password from a file where one is set.

    Raises:
        StorageError: The text is not a URL, the database is not supported, or the password file cannot be read.
    """
    url = _read_url(storage)
    name = backend_name(url)
    if name not in DIALECTS:
        raise StorageError(f"{display_url(url)}: databases of kind {name!r} are not supported; use {EXAMPLES}")
    return dialect_of(name).complete_url(url)


def _read_url(storage: str) -> URL:
    try:
        if storage.startswith("sqlite"):
            return _sqlite_url(storage)
        return make_url(storage)
    except (ArgumentError, ValueError) as error:
        # The message omits the text, which can contain a password.
        raise StorageError(f"the storage is not a URL; use for example {EXAMPLES}") from error


def _sqlite_url(storage: str) -> URL:
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


def display_url(url: URL | str) -> str:
    """The URL with its password masked, for messages and logs."""
    if isinstance(url, str):
        url = _read_url(url)
    shown = url.set(drivername=url.get_backend_name())
    secrets = {key: "***" for key in shown.query if "password" in key.lower()}
    return shown.update_query_dict(secrets).render_as_string(hide_password=True)
