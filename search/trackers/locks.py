"""Files that one process at a time writes to."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO, Any

from search.storage.private_files import make_private_folder, open_private


def open_locked(path: Path) -> IO[Any]:
    """Open a file for reading and appending bytes; it stays locked until it is closed.

    Raises:
        OSError: It cannot be opened, or another process has it open.
    """
    make_private_folder(path.parent)
    file = open_private(path, "a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        file.close()
        raise
    return file
