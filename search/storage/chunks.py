"""Many ids in a statement: databases limit the number of its bound values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement

Item = TypeVar("Item")

CHUNK = 500


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield `items` in parts that one statement can take."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def is_one_of(column: Column[Any], ids: Sequence[int]) -> ColumnElement[bool]:
    """Whether a column has one of these ids, at least one and none twice.

    A long list is parsed at each statement; ids without a gap, as those of a study mostly are, make a range.
    """
    low, high = min(ids), max(ids)
    return column.between(low, high) if high - low + 1 == len(ids) else column.in_(ids)
