"""`python -m search.storage.server FOLDER IDLE_S`: starts the server of a folder in the background.

It returns with 0 and "ready" when the server can be used, with 0 and "starting" when that takes longer, with 0 when
another process runs it, and with 2 and one line on stderr when it cannot be started.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
from pathlib import Path

from search.storage.errors import StorageError
from search.storage.server.account import account_of
from search.storage.server.claims import Place, Runs
from search.storage.server.folder import ServerFolder
from search.storage.server.supervise import STOP_SIGNALS, Hours, run_server

# The server goes on starting after that; the client asks again.
WAIT_S = 10.0
READY, STARTING = "ready", "starting"


def main() -> int:
    """Fork the server, and wait for its first word."""
    folder, hours = ServerFolder(Path(sys.argv[1])), Hours(idle_s=float(sys.argv[2]))
    try:
        account_of(folder)
        folder.make()
    except StorageError as error:
        print(error, file=sys.stderr)
        return 2
    heard, said = os.pipe()
    if os.fork() == 0:
        os.close(heard)
        _become_server(folder, hours, said)
    os.close(said)
    if not select.select([heard], [], [], WAIT_S)[0]:
        print(STARTING)
        return 0
    message = os.read(heard, 4096).decode()
    if message in ("", READY):
        print(message)
        return 0
    print(message, file=sys.stderr)
    return 2


def _become_server(folder: ServerFolder, hours: Hours, said: int) -> None:
    """Be the server, in a session of its own; never returns."""
    os.setsid()
    os.chdir("/")
    nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    status = 0

    def on_ready(place: Place) -> None:
        logging.getLogger("storage").info("process %d serves on port %d", place.pid, place.port)
        _tell(said, READY)

    try:
        run_server(folder, hours, on_ready)
    except Runs:
        pass
    except StorageError as error:
        logging.getLogger("storage").error("%s", error)
        _tell(said, str(error))
        status = 2
    finally:
        os._exit(status)


def _tell(said: int, message: str) -> None:
    with contextlib.suppress(OSError):  # the process that asked may have ended
        os.write(said, message.encode())
        os.close(said)


if __name__ == "__main__":
    raise SystemExit(main())
