"""Many real processes that run the same function on one database at the same moment."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from fork_server import CONTEXT, ForkedProcess
from sample_study import sample_plan

from search.options import PlanningOptions
from search.storage.connect import open_database
from search.storage.planning import plan
from search.storage.queue import TrialQueue
from search.workers.setup import open_worker

_barrier: Any = None


def run_at_once(processes: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call `work(*arguments)` in several processes at once and return the results."""
    barrier = CONTEXT.Barrier(processes)
    with ProcessPoolExecutor(processes, CONTEXT, initializer=_set_barrier, initargs=(barrier,)) as pool:
        started = [pool.submit(_wait_and_call, work, arguments) for _ in range(processes)]
        return [each.result(timeout=100) for each in started]


class ForkedWorker(ForkedProcess):
    """A worker process; SIGTERM stops it as it stops `search.worker`.

    It starts in a tenth of the time of a new interpreter.

    Args:
        options: The study, the database and the folders.
        environment: More variables, such as those of the fake objective.
        log_file: The file for its output.
    """

    def __init__(self, options: PlanningOptions, environment: Mapping[str, str], log_file: Path) -> None:
        super().__init__(_work, options, environment, log_file)


def _work(options: PlanningOptions, environment: Mapping[str, str], log_file: Path) -> None:
    os.environ.update(environment)  # the server's environment is that of an earlier test
    output = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s", force=True)
    worker = open_worker(
        options.study, options.storage, "cpu", corpus=options.corpus, out=options.out, fuse=options.fuse
    )
    signal.signal(signal.SIGTERM, lambda *_: worker.stop.set())
    with worker.queue.database.closing():
        worker.run()


def _set_barrier(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _wait_and_call(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    _barrier.wait(timeout=60)
    return work(*arguments)


def create_tables(url: str) -> None:
    """Open a database as `search.run` does."""
    open_database(url, create=True, wait_s=30).engine.dispose()


def plan_small(url: str, seeds: int) -> int:
    """Plan the small study and return how many trials this process added."""
    with open_database(url, create=True, wait_s=30).closing() as database:
        return plan(database, [sample_plan(seeds)]).added


def claim_all(url: str, finish: bool) -> list[int]:
    """Claim until nothing is left.

    Returns:
        The numbers of the trials that this process claimed.
    """
    claimed: list[int] = []
    with open_database(url, create=False, wait_s=30).closing() as database:
        queue = TrialQueue(database)
        # A new owner for each claim: a claim returns the rows that its owner already holds.
        while leases := queue.claim(["small"], f"{os.getpid()}-{len(claimed)}"):
            claimed += [lease.number for lease in leases]
            if finish:
                queue.finish(leases[0], "complete", 2.5)
    return claimed
