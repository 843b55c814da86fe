"""Which versions of the code have made the trials of a study, by the digest that each trial records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from search.storage.database import Database
from search.storage.queries import attr_counts
from search.study.trial_facts import ENVIRONMENT, code_of


def trials_by_code(database: Database, studies: Sequence[str]) -> Counter[str]:
    """The number of trials with losses by the digest of the code that made them, of those that have a record."""
    return count_by_code(attr_counts(database, studies, ENVIRONMENT))


def count_by_code(records: Iterable[tuple[str, Any, int]]) -> Counter[str]:
    """The same from records that were read.

    Args:
        records: The study, a record, and the number of trials that have it.
    """
    found: Counter[str] = Counter()
    for _, record, count in records:
        if (code := code_of(record)) is not None:
            found[code] += count
    return found
