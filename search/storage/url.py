"""Storage URLs: which are understood, and how they are shown."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from search.storage.errors import StorageError

EXAMPLES = "sqlite:///search.db or postgresql://user:password@host/database"


# Names a file with the password, so that neither a command line nor an environment shows it.
PASSWORD_FILE_VARIABLE = "SEARCH_PASSWORD_FILE"


def parse_url(storage: str) -> URL:
    """Read a storage URL, settle its driver, and fill in a password that lies in a file.

    Raises:
        StorageError: Not a URL, a database that is not supported, or a password file that cannot be read.
    """
    try:
        url = make_url(storage)
    except (ArgumentError, ValueError) as error:
        # The text is not repeated: it may hold a password.
        raise StorageError(f"the storage is not a URL; write for example {EXAMPLES}") from error
    backend = url.get_backend_name()
    if backend == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise StorageError(f"{display_url(url)} is in memory, which workers cannot share; write {EXAMPLES}")
        return url
    if backend in ("postgresql", "postgres"):
        password = url.password if url.password is not None else _password_from_file()
        return url.set(drivername="postgresql+psycopg", password=password)
    raise StorageError(f"{display_url(url)}: databases of kind {backend!r} are not supported; write {EXAMPLES}")


def _password_from_file() -> str | None:
    path = os.environ.get(PASSWORD_FILE_VARIABLE)
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\n") or None
    except OSError as error:
        raise StorageError(
            f"cannot read the password file {path} ({error.strerror}); {PASSWORD_FILE_VARIABLE} names it"
        ) from error


def display_url(url: URL | str) -> str:
    """The URL with its password masked, for messages and logs."""
    if isinstance(url, str):
        url = make_url(url)
    shown = url.set(drivername=url.get_backend_name())
    secrets = {key: "***" for key in shown.query if "password" in key.lower()}
    return shown.update_query_dict(secrets).render_as_string(hide_password=True)
