"""A planned study and its queue."""

from __future__ import annotations

import pytest
from smallstudy import small_plan

from storage.database import Database
from storage.planning import plan
from storage.queue import RunQueue


@pytest.fixture
def queue(database: Database) -> RunQueue:
    """The queue of the planned small study."""
    plan(database, [small_plan()])
    return RunQueue(database)
