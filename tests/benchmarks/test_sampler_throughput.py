"""What is timed of workers and of `study.optimize`: studies of equal size, of which all trials end."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.sampler_throughput import objective, stock
from benchmarks.sampler_throughput.__main__ import exponent
from benchmarks.sampler_throughput.runs import NAME, Case, Cost, _stock_database, workers

CASE = Case("random", 40, 6)


def check(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        states = connection.execute("SELECT state, count(*) FROM trials GROUP BY state").fetchall()
        named = "param_name IN ('x', 'y')"
        [values] = connection.execute(f"SELECT count(DISTINCT param_value) FROM trial_params WHERE {named}").fetchone()
    assert states == [("COMPLETE", 40)]
    assert values == 80  # two parameters of each trial, none twice


def test_a_worker(tmp_path: Path) -> None:
    cost = workers(CASE, 1, tmp_path)
    assert cost.ms > 0 < cost.cpu_ms
    check(tmp_path / "ours.db")


def test_stock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(objective.GATE, str(tmp_path))
    monkeypatch.setattr(objective, "_clock", [])
    (tmp_path / "open").touch()
    file = _stock_database(CASE.history, tmp_path)
    stock.optimize([f"sqlite:///{file}", NAME, "random", "0", str(CASE.measured), "free"])
    assert len(list(tmp_path.glob("*.ready"))) == len(list(tmp_path.glob("*.ended"))) == 1
    check(file)


def test_the_exponent_of_a_cost_in_proportion() -> None:
    few, many = Case("tpe", 500, 500), Case("tpe", 5000, 100)
    assert exponent(few, many, Cost(9.0, 250.0), Cost(9.0, 4950.0)) == pytest.approx(1)
    assert exponent(few, many, Cost(1.0, 3.0), Cost(9.0, 3.0)) == 0
