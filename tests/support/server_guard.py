"""Ends a PostgreSQL server or a pgbouncer and removes its folder when the process that started it is gone.

Run as `python server_guard.py FOLDER`, with a pipe on stdin that only the owner holds open: the pipe ends with the
owner, even if the owner was killed. This script uses only the standard library.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

PATIENCE_S = 20.0


def main() -> None:
    """Wait for the owner's end, then clean up."""
    # Ctrl-C and the end of a terminal reach the whole process group; only the end of the owner counts.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    folder = Path(sys.argv[1])
    while os.read(0, 1024):
        pass
    deadline = time.monotonic() + PATIENCE_S
    while (pid := _server_of(folder)) is not None and time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            # SIGQUIT is PostgreSQL's immediate shutdown: it ends the sessions too. pgbouncer has nothing to lose, and
            # started by a job in the background it ignores SIGQUIT.
            os.kill(pid, signal.SIGKILL if (folder / "pgbouncer.pid").exists() else signal.SIGQUIT)
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def _server_of(folder: Path) -> int | None:
    """The process id of the running server whose data is in a folder."""
    file = folder / "pgbouncer.pid"
    try:
        pid = int((file if file.exists() else folder / "data" / "postmaster.pid").read_text().split()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return None
    return pid if os.fsencode(folder) in command else None


if __name__ == "__main__":
    main()
