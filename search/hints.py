"""How messages name the programs: in the form in which the user has called one, such as `lm-search run`."""

from __future__ import annotations

import os

# The form that the user used; child processes inherit it.
VARIABLE = "SEARCH_CALLED_AS"
SCRIPT, PACKAGE = "lm-search", "python -m search"


def called_as(form: str) -> None:
    """Name the programs as subcommands of `form`, in this process and its children.

    Args:
        form: `SCRIPT` or `PACKAGE`.
    """
    os.environ[VARIABLE] = form


def command_of(name: str) -> str:
    """The start of a command line that calls a program, such as "lm-search run" or "python -m search.run"."""
    form = os.environ.get(VARIABLE)
    return f"{form} {name}" if form in (SCRIPT, PACKAGE) else f"python -m search.{name}"
