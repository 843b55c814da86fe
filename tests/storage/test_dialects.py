"""What is particular to a kind of database is in its dialect, and nowhere else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import search
from search.storage.dialects import DIALECTS, dialect_of
from search.storage.errors import StorageError

PACKAGE = Path(search.__file__).parent
DRIVERS = {"sqlite3", "psycopg"}


def test_only_dialects_know_their_names_and_drivers() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name == "dialects.py" or path.name.startswith("dialect_"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Constant) and node.value in DIALECTS), f"{path}:{node.lineno}"
            if isinstance(node, ast.Import):
                assert DRIVERS.isdisjoint(alias.name for alias in node.names), path
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[:3] != ["sqlalchemy", "dialects"], path


@pytest.mark.parametrize("name", DIALECTS)
def test_a_registered_dialect_is_found_once(name: str) -> None:
    assert dialect_of(name) is dialect_of(name)


def test_another_dialect_is_one_file_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIALECTS, "duckdb", "search.storage.dialect_sqlite:SqliteDialect")
    assert type(dialect_of("duckdb")).__name__ == "SqliteDialect"
    dialect_of.cache_clear()


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(StorageError, match=r"databases of kind 'mysql' are not supported; use sqlite:///"):
        dialect_of("mysql")
