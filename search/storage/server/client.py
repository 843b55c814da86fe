"""How a program connects to the server of a folder, which it starts if none runs."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import search
from search.storage.errors import StorageError
from search.storage.server.claims import PACE, Place, newest
from search.storage.server.folder import DATABASE, USER, ServerFolder

log = logging.getLogger("storage")

# A server that a program started ends when no client has been connected for so long.
IDLE_S = 600.0
START_LIMIT_S = 60.0

# Until when not to start the server of a folder again, because a process that was started still waits for the end of
# another machine's server.
_starting_until: dict[Path, float] = {}


def reach(folder: ServerFolder) -> tuple[Place, dict[str, Any]] | None:
    """Where the server was last said to be, and what libpq needs to reach it; None if none is there.

    Raises:
        StorageError: The password cannot be read.
    """
    place = newest(folder.path)
    if place is None or not folder.certificate.exists():
        return None
    # The certificate is the server's own, and whoever has its key is the server, on whatever host.
    return place, {
        "host": ",".join([*(["127.0.0.1"] if place.is_here else []), place.host, place.address]),
        "port": place.port,
        "user": USER,
        "password": folder.password(),
        "dbname": DATABASE,
        "sslmode": "verify-ca",
        "sslrootcert": str(folder.certificate),
    }


def start(folder: ServerFolder) -> bool:
    """Start the server of a folder in the background, unless it runs somewhere.

    Returns:
        Whether this call has started it, so that it can be used; otherwise it runs already, or needs more time.

    Raises:
        StorageError: It cannot be started here.
    """
    from search.storage.server.postgres import programs  # what a client rarely needs

    if time.monotonic() < _starting_until.get(folder.path, 0.0):
        return False
    folder.check()
    programs()
    command = [sys.executable, "-P", "-m", "search.storage.server", str(folder.path), str(IDLE_S)]
    # Last on the path: it holds this package, and perhaps those of other projects.
    paths = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), str(Path(search.__file__).parents[1])]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            timeout=START_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise StorageError(f"the database server of {folder} could not be started: {said[-1]}")
    if done.stdout.strip() == "starting":
        _starting_until[folder.path] = time.monotonic() + PACE.silence_s
    if done.stdout.strip() != "ready":
        return False
    log.warning(
        "started the database server of %s on this host; it ends after %.0f minutes without a connection, or with: "
        "lm-search database --folder %s --stop",
        folder, IDLE_S / 60, shlex.quote(str(folder.path)),
    )  # fmt: skip
    return True
