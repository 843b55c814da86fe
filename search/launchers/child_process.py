"""How a program of ours starts another one as a child."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import search

DISTRIBUTION = "lm-search"


def child_command(module: str) -> list[str]:
    """The start of a command line that runs one of our programs.

    With -P the child does not look for modules in its working directory first, where a file such as typer.py would
    take the place of a package.

    Args:
        module: Such as "search.worker".
    """
    return [sys.executable, "-P", "-m", module]


def child_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Our environment with `variables`, in which a child with -P finds the package `search`."""
    environment = {**os.environ, **variables}
    source = Path(search.__file__).parents[1]
    if not _is_installed(source):
        # A checkout that was not installed was found through the working directory.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(source)]))
    return environment


def _is_installed(source: Path) -> bool:
    """Whether the package is found without the working directory: installed, or editable from `source`."""
    try:
        found = Path(str(metadata.distribution(DISTRIBUTION).locate_file("")))
    except metadata.PackageNotFoundError:
        return False
    # What a build leaves in a checkout looks like an installation, and is none.
    return found.resolve() != source.resolve() or "site-packages" in source.parts
