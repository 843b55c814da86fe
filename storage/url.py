"""Storage URLs: which are understood, and how they are shown."""

from __future__ import annotations

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from storage.errors import StorageError

EXAMPLES = "sqlite:///search.db or postgresql://user:password@host/database"


def parse_url(storage: str) -> URL:
    """Read a storage URL and settle its driver.

    Raises:
        StorageError: Not a URL, or a database that is not supported.
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
        return url.set(drivername="postgresql+psycopg")
    raise StorageError(f"{display_url(url)}: databases of kind {backend!r} are not supported; write {EXAMPLES}")


def display_url(url: URL | str) -> str:
    """The URL with its password masked, for messages and logs."""
    if isinstance(url, str):
        url = make_url(url)
    shown = url.set(drivername=url.get_backend_name())
    secrets = {key: "***" for key in shown.query if "password" in key.lower()}
    return shown.update_query_dict(secrets).render_as_string(hide_password=True)
