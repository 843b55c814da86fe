"""The error of a wrong choice of model. No torch here: the launcher catches it too."""

from __future__ import annotations


class ModelError(ValueError):
    """A model cannot be built as chosen; the message explains what to choose instead."""


def require_positive_int(argument: str, value: object) -> int:
    """Check that a size of a model is a whole number of at least 1.

    Args:
        argument: The name of the argument, for the message.
        value: What the user gave.

    Returns:
        The value itself.

    Raises:
        ModelError: The value is not an int (a bool does not count as one), or is below 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(f"{argument}={value!r} is not a size: give a whole number of at least 1")
    return value
