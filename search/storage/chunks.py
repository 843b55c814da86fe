"""Databases limit the number of bound values of one statement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

CHUNK = 500


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield `items` in parts that one statement can take."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]
