"""What a wrong choice of model raises. No torch here: the launcher catches it too."""

from __future__ import annotations


class ModelError(ValueError):
    """A model, or an argument of one, was chosen that cannot be built; the message says what to choose instead."""


def require_positive_int(argument: str, value: object) -> int:
    """Accept a size of a model only when it is a whole number of at least 1.

    Args:
        argument: The name of the argument, for the message.
        value: What the user gave.

    Returns:
        The value itself.

    Raises:
        ModelError: It is not an int (a bool counts as none), or it is below 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(f"{argument}={value!r} is not a size: give a whole number of at least 1")
    return value
