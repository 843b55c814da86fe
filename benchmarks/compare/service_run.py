"""This service as a contender of `benchmarks.compare`: the command that a user would type, timed."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from benchmarks.compare.task import Task
from search.storage.connect import open_database
from search.storage.queries import trial_summaries
from search.storage.trial_histories import trial_histories

ROOT = Path(__file__).parents[2]
STUDIES = ("bigram", "bigram-baselines")


def database_of(folder: Path) -> str:
    """The URL of the database of a run in `folder`."""
    return f"sqlite:///{(folder / 'search.db').absolute()}"


def run_service(task: Task, folder: Path, *arguments: str) -> dict[str, float]:
    """Run the study with this service in a fresh folder.

    Returns:
        wall_s and cpu_s of the whole command; train_s, the sum over its trials, evaluations included; tail_s, the sum
        over the workers of what each waited for the last trial to end; trials.
    """
    # The run would resume an interrupted measurement, and its time would miss the trials before.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "search.run", "--study", "bigram", "--storage", database_of(folder)]
    command += ["--out", str((folder / "out").absolute()), "--json", *task.service_arguments(), *arguments]
    began, cpu_began = time.monotonic(), children_cpu_s()
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE)
    wall_s, cpu_s = time.monotonic() - began, children_cpu_s() - cpu_began
    with open_database(database_of(folder), create=False, wait_s=10).closing() as database:
        trials = trial_summaries(database, STUDIES, attrs=("train_seconds",))
        times = [(each.started, each.ended) for each in trial_histories(database, STUDIES)]
    train_s = sum(trial.attrs["train_seconds"] for trial in trials)
    tail_s = waited_at_the_end_s([(began, end) for began, end in times if began and end])
    return {"wall_s": wall_s, "cpu_s": cpu_s, "train_s": train_s, "tail_s": tail_s, "trials": len(trials)}


def children_cpu_s() -> float:
    """CPU seconds of all child processes that have ended, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def waited_at_the_end_s(times: Sequence[tuple[datetime, datetime]]) -> float:
    """Seconds, summed over the workers, without a trial to claim while others still trained.

    Args:
        times: Begin and end of each trial. After the last begin no worker takes another, so the trials that end later
            are the last ones of their workers.
    """
    last_begin, last_end = max(begin for begin, _ in times), max(end for _, end in times)
    return sum((last_end - end).total_seconds() for _, end in times if end > last_begin)
