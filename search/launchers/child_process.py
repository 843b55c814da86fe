"""Starts a program of `search` as a child process."""

from __future__ import annotations

import os
import site
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import search

DISTRIBUTION = "lm-search"
PARENT_POLL_S = 1.0
# The argument of a worker that waits for its job.
SPARE = "--spare"


def child_command(module: str) -> list[str]:
    """Return the start of a command line that runs a program of `search`.

    -P keeps the working directory off the child's module path, where a file such as typer.py would shadow a package.

    Args:
        module: The program's module, such as "search.worker".
    """
    return [sys.executable, "-P", "-m", module]


def when_parent_ends(parent: int, then: Callable[[], object]) -> None:
    """Call `then`, in a thread, once the process that started this one has ended, even if it was killed.

    Args:
        parent: Its process id. If it has ended already, another process has become the parent of this one.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_S)
        then()

    threading.Thread(target=watch, name="parent", daemon=True).start()


def child_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with `variables`, in which a child with -P can import `search`."""
    environment = {**os.environ, **variables}
    # An empty entry, as `export PYTHONPATH=$PYTHONPATH:/folder` makes it, is the working directory.
    folders = [each for each in environment.get("PYTHONPATH", "").split(os.pathsep) if each]
    source = Path(search.__file__).parents[1]
    if str(source) not in folders and not _is_installed(source):
        # This process found a checkout that is not installed through its working directory.
        folders.append(str(source))
    environment["PYTHONPATH"] = os.pathsep.join(folders)
    return environment


def _is_installed(source: Path) -> bool:
    """Whether `search` can be imported without the working directory: installed, or editable from `source`."""
    if str(source) in (*site.getsitepackages(), site.getusersitepackages()):
        return True
    from importlib import metadata  # as slow to import as what starts the process

    try:
        found = Path(str(metadata.distribution(DISTRIBUTION).locate_file("")))
    except metadata.PackageNotFoundError:
        return False
    # The metadata that a build leaves in a checkout looks like an installation but is none.
    return found.resolve() != source.resolve() or "site-packages" in source.parts
