"""Stops the server of a folder, on whatever host it runs."""

from __future__ import annotations

import os
import signal
import time

from search.storage.errors import StorageError
from search.storage.server.claims import PACE, Pace, Place, ask_to_stop, read_place, running
from search.storage.server.folder import ServerFolder

PATIENCE_S = 60.0
POLL_S = 0.05


def stop_server(folder: ServerFolder, pace: Pace = PACE) -> Place | None:
    """Ask the server to stop, and wait until it has.

    Returns:
        Where it was; None if none runs.

    Raises:
        StorageError: It does not stop.
    """
    file = running(folder.path, pace)
    place = None if file is None else read_place(file)
    if file is None or place is None:
        return None
    try:
        if place.is_here:
            os.kill(place.pid, signal.SIGTERM)
        else:
            ask_to_stop(file)
        deadline = time.monotonic() + PATIENCE_S
        while file.exists():
            if time.monotonic() > deadline:
                raise StorageError(
                    f"the server of {folder} on {place.host}, process {place.pid}, has not stopped within "
                    f"{PATIENCE_S:.0f} s; log: {folder.log}"
                )
            time.sleep(POLL_S)
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror}; only the user who made the server can stop it") from error
    return place
