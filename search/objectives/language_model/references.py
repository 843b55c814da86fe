"""Finds what a setting names as "module:name": an optimizer, or a function that draws batches."""

from __future__ import annotations

import importlib
from typing import Any

from search.objectives.errors import ObjectiveError


def find(setting: str, reference: str, choices: str) -> Any:
    """Find an object by its reference.

    Args:
        setting: The name of the setting, for messages.
        reference: "module:name".
        choices: What else to do, for messages.

    Raises:
        ObjectiveError: The module does not import, or lacks the name.
    """
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module can raise anything at import
        raise ObjectiveError(
            f"{setting} {reference!r}: module {module_name!r} does not import ({type(error).__name__}: {error}); "
            f"put it beside the study file or on PYTHONPATH, or {choices}"
        ) from error
    if not hasattr(module, name):
        raise ObjectiveError(f"{setting} {reference!r} does not exist: {choices}")
    return getattr(module, name)
