"""Files and folders that other users of the machine cannot read: 0640 and 0750 with the usual umask.

Databases, checkpoints, artifacts and logs show what a study trains. The group's rights follow the umask, so that a team
that shares a folder with `umask 002` can go on writing to it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

FILE_MODE = 0o660
FOLDER_MODE = 0o770


def make_private_folder(path: Path) -> None:
    """Create a folder and its missing parents; the rights of existing ones stay.

    Raises:
        OSError: It cannot be created, or a file has its name.
    """
    # `Path.mkdir` with `parents` would give its mode to the last folder only.
    try:
        path.mkdir(FOLDER_MODE, exist_ok=True)
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_private_folder(path.parent)
        path.mkdir(FOLDER_MODE, exist_ok=True)


def open_private(path: Path, mode: str) -> IO[Any]:
    """Open a file as `open` does; a new one is private.

    Raises:
        OSError: As for `open`.
    """
    return open(path, mode, encoding=None if "b" in mode else "utf-8", opener=_opener)


def create_private(path: Path) -> None:
    """Create an empty file if there is none.

    Raises:
        OSError: It cannot be created.
    """
    if not path.exists():
        os.close(_opener(str(path), os.O_WRONLY | os.O_CREAT))


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
