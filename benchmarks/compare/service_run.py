"""This service as a contender of `benchmarks.compare`: the command that a user would type, timed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import datetime
from math import inf
from pathlib import Path

from benchmarks.compare.task import Task
from benchmarks.compare.turns import Program, Ran, take_turns
from search.storage.connect import open_database
from search.storage.trial_histories import trial_histories

STUDIES = ("bigram", "bigram-baselines")


def database_of(folder: Path) -> str:
    """The URL of the database of a run in `folder`."""
    return f"sqlite:///{(folder / 'search.db').absolute()}"


def run_service(task: Task, folder: Path, *arguments: str) -> dict[str, float]:
    """Run the study with this service in a fresh folder; returns what `service_figures` does."""
    name = "service"
    return service_figures(folder, take_turns({name: service_program(task, folder, *arguments)})[name])


def service_program(task: Task, folder: Path, *arguments: str, turn_s: float = inf) -> Program:
    """The command for the study; the folder is emptied."""
    # The run would resume an interrupted measurement, and its time would miss the trials before.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = ["-m", "search.run", "--study", "bigram", "--storage", database_of(folder)]
    command += ["--out", str((folder / "out").absolute()), "--json", *task.service_arguments(), *arguments]
    return Program(command, turn_s=turn_s)


def service_figures(folder: Path, ran: Ran) -> dict[str, float]:
    """What the command took, without the time that others had their turn.

    Returns:
        wall_s and cpu_s of the whole command; tail_s, the sum over the workers of what each waited for the last trial
        to end; trials.
    """
    with open_database(database_of(folder), create=False, wait_s=10).closing() as database:
        histories = [(each.started, each.ended) for each in trial_histories(database, STUDIES)]
    tail_s = waited_at_the_end_s([(began, end) for began, end in histories if began and end], ran.active_s)
    return {"wall_s": ran.wall_s, "cpu_s": ran.cpu_s, "tail_s": tail_s, "trials": len(histories)}


def waited_at_the_end_s(
    times: Sequence[tuple[datetime, datetime]], active_s: Callable[[datetime, datetime], float]
) -> float:
    """Seconds, summed over the workers, without a trial to claim while others still trained.

    Args:
        times: Begin and end of each trial. After the last begin no worker takes another, so the trials that end later
            are the last ones of their workers.
        active_s: The seconds between two moments in which the workers ran.
    """
    last_begin, last_end = max(begin for begin, _ in times), max(end for _, end in times)
    return sum(active_s(end, last_end) for _, end in times if end > last_begin)
