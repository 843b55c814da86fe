"""Files that one process at a time writes to."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO, Any

from search.storage.private_files import make_private_folder, open_private
from search.trackers.protocol import TrackerError


def open_locked(path: Path) -> IO[Any]:
    """Open a file for reading and appending bytes; it stays locked until it is closed.

    Raises:
        TrackerError: Another process has it open.
        OSError: It cannot be opened.
    """
    make_private_folder(path.parent)
    file = open_private(path, "a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise TrackerError(f"another process writes to {path}; give a tracker to one run at a time") from None
    except BaseException:
        file.close()
        raise
    return file
