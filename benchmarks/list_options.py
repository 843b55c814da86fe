"""Options of benchmarks that are lists in one text, such as `--workers 1,8`."""

from __future__ import annotations

from collections.abc import Iterable

from search.errors import UsageError


def names_of(text: str, choices: Iterable[str]) -> list[str]:
    """The names in a text.

    Raises:
        UsageError: One of them is no choice.
    """
    known, names = list(choices), text.split(",")
    if wrong := [each for each in names if each not in known]:
        raise UsageError(f"{wrong[0]!r}: choices are {', '.join(known)}")
    return names


def numbers_of(text: str) -> list[int]:
    """The whole numbers in a text.

    Raises:
        UsageError: One of them is not at least 1.
    """
    numbers = text.split(",")
    if wrong := [each for each in numbers if not each.isascii() or not each.isdigit() or int(each) < 1]:
        raise UsageError(f"{wrong[0]!r}: write whole numbers from 1 on, such as 1,8")
    return [int(each) for each in numbers]
