"""Folders of private database servers, and the end of the servers in them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gates import wait_until

from search.storage.server.claims import Place, newest, process_start


@contextmanager
def server_folders() -> Iterator[Path]:
    """An empty folder for the folders of servers; at the end their servers are killed, and all is removed.

    pytest's own folders can be entered by their owner alone, and as root PostgreSQL runs as another user.
    """
    disk = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="lm-search-servers-", dir=disk))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for each in folder.iterdir():
            if (place := newest(each)) is not None:
                kill_server(each, place)
        shutil.rmtree(folder, ignore_errors=True)


def kill_server(folder: Path, place: Place) -> None:
    """Kill a server with all that belongs to it, as the end of its host would, and wait until nothing of it is left."""
    pids = [place.pid, *postgres_processes(folder)]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(process_start(pid) for pid in pids), "the end of the server's processes")
    shutil.rmtree(place.sockets, ignore_errors=True)


def postgres_processes(folder: Path) -> list[int]:
    """The main process of PostgreSQL, and its children."""
    try:
        main = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    except (OSError, ValueError, IndexError):
        return []
    return [main, *map(int, children)]
