"""Many real processes that do the same to one database at the same moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from typing import Any

from sample_study import sample_plan

from search.planning import StudyOptions
from search.storage.connect import open_database
from search.storage.planning import plan
from search.storage.queue import TrialQueue
from search.workers.setup import open_worker

# Forked from a server that has imported everything and opened nothing: quick, and safe for SQLite, whose locks
# do not survive a fork.
_CONTEXT = multiprocessing.get_context("forkserver")
_gate: Any = None


def run_at_once(processes: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call `work(*arguments)` in several processes at once and return what they returned."""
    _CONTEXT.set_forkserver_preload(["swarm"])
    gate = _CONTEXT.Barrier(processes)
    with ProcessPoolExecutor(processes, _CONTEXT, initializer=_keep, initargs=(gate,)) as pool:
        started = [pool.submit(_pass_gate, work, arguments) for _ in range(processes)]
        return [each.result(timeout=100) for each in started]


def start_worker(options: StudyOptions, environment: Mapping[str, str]) -> BaseProcess:
    """Start one worker; SIGTERM stops it as it would stop `python -m search.worker`.

    Args:
        environment: More variables, such as those of the fake objective.
    """
    # What every worker imports is imported once.
    _CONTEXT.set_forkserver_preload(["swarm"])
    process = _CONTEXT.Process(target=_work, args=(options, environment))
    process.start()
    return process


def _work(options: StudyOptions, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)  # the server's environment is that of an earlier test
    worker = open_worker(
        options.study, options.storage, "cpu", corpus=options.corpus, out=options.out, fuse=options.fuse
    )
    signal.signal(signal.SIGTERM, lambda *_: worker.stop.set())
    with worker.queue.database.closing():
        worker.run()


def _keep(gate: Any) -> None:
    global _gate
    _gate = gate


def _pass_gate(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    _gate.wait(timeout=60)
    return work(*arguments)


def create_tables(url: str) -> None:
    """Open a database as `search.run` does."""
    open_database(url, create=True, wait_s=30).engine.dispose()


def plan_small(url: str, seeds: int) -> int:
    """Plan the small study; how many trials this process added."""
    with open_database(url, create=True, wait_s=30).closing() as database:
        return plan(database, [sample_plan(seeds)]).added


def claim_all(url: str, finish: bool) -> list[int]:
    """Claim until nothing is left.

    Returns:
        The numbers of the trials that this process got.
    """
    claimed = []
    with open_database(url, create=False, wait_s=30).closing() as database:
        queue = TrialQueue(database)
        # A new name for each claim: rows that a name holds already are given to it again.
        while leases := queue.claim(["small"], f"{os.getpid()}-{len(claimed)}"):
            claimed += [lease.number for lease in leases]
            if finish:
                queue.finish(leases[0], "complete", 2.5)
    return claimed
