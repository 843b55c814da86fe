"""Simulated workers do what they are counted for."""

from __future__ import annotations

import os

from postgres import PostgresServer

from benchmarks.many_workers import ManyWorkersOptions, as_table, pace


def test_workers_are_counted_with_what_they_cost(postgres: PostgresServer) -> None:
    options = ManyWorkersOptions(trial_ms=20, evaluations=3, seconds=0.5, processes=2)
    url = postgres.create_database(f"many_{os.getpid()}")

    found = pace(url, 3, options)

    assert found.trials > 3
    # A claim, three reports and the end; each worker can have begun a trial that is not counted.
    assert 5 * (found.trials - 3) <= found.writes <= 5 * (found.trials + 3)
    assert found.client_cpu_s > 0
    assert found.server_cpu_s > 0
    assert found.log_bytes > 1000
    assert f"| 3 | {found.trials_a_second:.1f} | 1.00 |" in as_table([found])
