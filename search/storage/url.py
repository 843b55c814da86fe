"""Parses storage URLs, and shows them without passwords."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from search.storage.dialects import DIALECTS, EXAMPLES, SYNONYMS, backend_name, dialect_of
from search.storage.errors import StorageError
from search.storage.server.folder import PREFIX, server_folder

# The key of a URL's query that names the folder of a private server. "server:DIR" is a URL of the server's kind without
# an address, which is looked up in the folder at each connection, since it changes when the server starts again.
SERVER_KEY = "server"


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
    start = re.split("[+:]", storage, maxsplit=1)[0]
    name = SYNONYMS.get(start, start)
    try:
        url = dialect_of(name).read_url(storage) if name in DIALECTS else make_url(storage)
        # SQLAlchemy ends the password at the first @, also at one in the query, and would show the rest.
        if "@" in (url.host or "") or ("?" in (password := str(url.password or "")) and "=" in password):
            raise StorageError(
                "the storage has more than one @, so that a part of its password is taken for the host; write each @ "
                "of the password as %40, or put the password into a file and name that in SEARCH_PASSWORD_FILE"
            )
        return url
    except (ArgumentError, ValueError) as error:
        from search.storage.dialect_sqlite_optuna import journal_advice  # rarely needed, and slow to import

        if (advice := journal_advice(Path(storage))) is not None:
            raise StorageError(advice) from error
        # The message omits a text that can contain a password.
        example = f"for this file use sqlite:///{storage}" if _is_file_name(storage) else f"use for example {EXAMPLES}"
        raise StorageError(f"the storage is not a URL; {example}") from error


def _is_file_name(text: str) -> bool:
    return "//" not in text and re.fullmatch(r"[\w./ -]+\.(db|db3|sqlite|sqlite3)", text) is not None


def storage_anywhere(storage: str) -> str:
    """The storage as a program with another working directory, or on another host, understands it."""
    return f"{PREFIX}{server_folder(storage.removeprefix(PREFIX)).path}" if storage.startswith(PREFIX) else storage


def display_url(url: URL | str) -> str:
    """The URL with its password masked, for messages and logs."""
    if isinstance(url, str):
        url = _read_url(url)
    if SERVER_KEY in url.query:
        return f"{PREFIX}{url.query[SERVER_KEY]}"
    shown = url.set(drivername=url.get_backend_name())
    secrets = {key: "***" for key in shown.query if "password" in key.lower()}
    return shown.update_query_dict(secrets).render_as_string(hide_password=True)
