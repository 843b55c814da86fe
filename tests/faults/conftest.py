"""Fixtures of the fault scenarios."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres import PostgresServer
from scenario import FaultStudy, MakeStudy


@pytest.fixture
def make_study(tmp_path: Path, storage_url: str) -> Iterator[MakeStudy]:
    """Makes studies in an empty database; kills their remaining processes at the end of the test."""
    yield from _makes_studies(tmp_path, storage_url)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that a test may stop and start."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def make_study_there(tmp_path: Path, own_postgres: PostgresServer) -> Iterator[MakeStudy]:
    """The same on `own_postgres`."""
    yield from _makes_studies(tmp_path, own_postgres.url())


@pytest.fixture
def make_sqlite_study(tmp_path: Path) -> Iterator[MakeStudy]:
    """The same on SQLite only."""
    yield from _makes_studies(tmp_path, f"sqlite:///{tmp_path / 'search.db'}")


@pytest.fixture
def make_study_on_postgres(tmp_path: Path, postgres: PostgresServer) -> Iterator[MakeStudy]:
    """The same in a new schema of the session's server."""
    yield from _makes_studies(tmp_path, postgres.create_schema(f"faults_{os.getpid()}_{tmp_path.name}"))


def _makes_studies(folder: Path, url: str) -> Iterator[MakeStudy]:
    made: list[FaultStudy] = []

    def make(trials: int = 0, **settings: Any) -> FaultStudy:
        """Make a study whose axis `slot` has one value per trial, unless `grid` is given."""
        settings.setdefault("grid", {"slot": list(range(trials))})
        made.append(FaultStudy(folder, url, **settings))
        return made[-1]

    try:
        yield make
    finally:
        for study in made:
            study.kill_all()
