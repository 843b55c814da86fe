"""A planned study and its queue."""

from __future__ import annotations

import pytest
from sample_study import sample_plan

from search.storage.database import Database
from search.storage.planning import plan
from search.storage.queue import TrialQueue


@pytest.fixture
def queue(database: Database) -> TrialQueue:
    """The queue of the planned small study."""
    plan(database, [sample_plan()])
    return TrialQueue(database)
