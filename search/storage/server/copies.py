"""Copies of a private server's database: pg_dump into a file, and pg_restore into a new folder."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from search.storage.database import OUTAGE_S, open_engine
from search.storage.dialects import first_line
from search.storage.errors import StorageError
from search.storage.private_files import create_private
from search.storage.server.claims import newest
from search.storage.server.client import START_LIMIT_S, start
from search.storage.server.folder import DATABASE, PREFIX, USER, ServerFolder
from search.storage.server.postgres import environment, programs
from search.storage.server.stopping import stop_server
from search.storage.texts import printable
from search.storage.url import parse_url

POLL_S = 0.1


def back_up(folder: ServerFolder, file: Path) -> None:
    """Write a copy of the database to a new file; a server that does not run is started.

    Raises:
        StorageError: It cannot, in one line.
    """
    if not folder.is_made:
        raise StorageError(f"{folder} has no database; nothing was written")
    if file.exists():
        raise StorageError(f"--backup {file}: the file exists; give a new name")
    new = file.with_name(f"{file.name}.part")
    try:
        new.unlink(missing_ok=True)
        create_private(new)
        with _used(folder) as sockets:
            _run(folder, "pg_dump", "-h", sockets, "-U", USER, "-Fc", "-f", str(new), DATABASE)
        new.rename(file)
    except OSError as error:
        raise StorageError(f"--backup {file}: {error.strerror}; give another file") from error
    finally:
        new.unlink(missing_ok=True)


def restore(folder: ServerFolder, file: Path) -> None:
    """Make the database of a new folder from a copy, and leave its server running.

    Raises:
        StorageError: It cannot, in one line.
    """
    if folder.is_made:
        raise StorageError(f"{folder} has a database, which --restore never replaces; give a new --folder")
    if not file.is_file():
        raise StorageError(f"--restore {file}: there is no such file")
    _run(None, "pg_restore", "--list", str(file))  # before anything is made
    options = ["--no-owner", "--single-transaction", "--exit-on-error", "-d", DATABASE]
    try:
        with _used(folder) as sockets:
            _run(folder, "pg_restore", "-h", sockets, "-U", USER, *options, str(file))
    except StorageError:
        stop_server(folder)
        shutil.rmtree(folder.path, ignore_errors=True)
        raise


@contextmanager
def _used(folder: ServerFolder) -> Iterator[str]:
    """Keep the server running, as a connected client does: one that is not used for ten minutes ends.

    Yields:
        What `_sockets` returns.
    """
    sockets = _sockets(folder)
    engine = open_engine(parse_url(f"{PREFIX}{folder.path}"), OUTAGE_S)
    try:
        with engine.connect():
            yield sockets
    except DBAPIError as error:
        raise StorageError(f"the server of {folder} does not answer: {first_line(error)}; log: {folder.log}") from error
    finally:
        engine.dispose()


def _sockets(folder: ServerFolder) -> str:
    """The folder of the socket of the running server; the programs of the package know no TLS."""
    start(folder)
    deadline = time.monotonic() + START_LIMIT_S
    while (place := newest(folder.path)) is None or (place.is_here and not _is_ready(place.sockets)):
        if time.monotonic() > deadline:
            raise StorageError(
                f"the server of {folder} has not started within {START_LIMIT_S:.0f} s; log: {folder.log}"
            )
        time.sleep(POLL_S)
    if not place.is_here:
        raise StorageError(
            f"the server of {folder} runs on {place.host}: give this command there, or stop the server first with "
            "--stop"
        )
    return place.sockets


def _is_ready(sockets: str) -> bool:
    command = [str(programs() / "pg_isready"), "-q", "-h", sockets]
    return subprocess.run(command, env=environment(), check=False).returncode == 0


def _run(folder: ServerFolder | None, program: str, *arguments: str) -> None:
    password = {} if folder is None else {"PGPASSWORD": folder.password()}  # in no command line
    done = subprocess.run(
        [str(programs() / program), *arguments],
        env={**environment(), **password},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise StorageError(printable(said[0]))
