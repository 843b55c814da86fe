"""Optuna's own test suite for storages, on ours."""

from __future__ import annotations

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from search.storage.database import Database
from search.storage.optuna_storage import SearchStorage


class TestSearchStorage(StorageTestCase):
    @pytest.fixture
    def storage(self, database: Database) -> SearchStorage:
        return SearchStorage(database)
