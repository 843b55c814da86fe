"""Finds what a setting names as "module:name": an optimizer, or a function that draws batches."""

from __future__ import annotations

from typing import Any

from search.models.registry import import_named
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
    module = import_named(f"{setting} {reference!r}", module_name, choices, ObjectiveError)
    if not hasattr(module, name):
        raise ObjectiveError(f"{setting} {reference!r} does not exist: {choices}")
    return getattr(module, name)
