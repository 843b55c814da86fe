"""Who runs PostgreSQL: it refuses root, so root leaves it to another user."""

from __future__ import annotations

import os
import pwd
import subprocess
from typing import Any

from search.storage.errors import StorageError
from search.storage.server.folder import ServerFolder


def account_of(folder: ServerFolder) -> dict[str, Any]:
    """The user who runs the PostgreSQL of a folder, which need not exist yet, as arguments of `subprocess`.

    Returns:
        Nothing for the user of this process; for root the folder's owner, or nobody if root owns it.

    Raises:
        StorageError: That user could not enter the folder.
    """
    if os.geteuid() != 0:
        return {}
    made = folder.data if folder.data.exists() else folder.path
    owner = made.stat() if made.exists() else None
    user, group = pwd.getpwnam("nobody")[2:4] if owner is None or owner.st_uid == 0 else (owner.st_uid, owner.st_gid)
    account: dict[str, Any] = {"user": user, "group": group, "extra_groups": []}
    # A folder of root's is opened for this user; what lies above it stays as it is.
    outer = folder.path.parent
    if not outer.is_dir():
        return account  # the folder cannot be made, and `ServerFolder.make` says why
    command = ["/bin/sh", "-c", 'cd "$1"', "sh", str(outer)]
    if subprocess.run(command, stderr=subprocess.DEVNULL, check=False, cwd="/", **account).returncode != 0:
        raise StorageError(
            f"PostgreSQL does not run as root, and the user with the number {user} cannot enter {outer}: give a folder "
            "that every user can enter, such as /srv/search-db, or run this as another user"
        )
    return account
