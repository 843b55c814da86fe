"""`python -m benchmarks.trackers`: the processor time that each tracker takes for all events of a finished study.

Each tracker runs in a new process, whose processes count with it. Everything is written to a temporary folder; MLflow's
database is made before, and W&B is offline.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from typing import Annotated

from search.command_line import new_program
from search.errors import user_errors
from search.option_fields import Option
from search.shared_options import StudyOptions
from search.storage.tracking_queries import trials_with_news
from search.study.lookup import open_studies
from search.trackers.feed import events_of, metrics_of
from search.trackers.protocol import Event
from search.trackers.registry import make_tracker

TRACKERS = ("jsonl:events.jsonl", "tensorboard:runs", "mlflow:sqlite:///mlflow.db", "wandb:letters")


@dataclass(frozen=True, kw_only=True)
class TrackersOptions(StudyOptions):
    """The options of this program."""

    rounds: Annotated[int, Option("Rounds; the fastest counts.", "N", minimum=1)] = 3


def measure(options: TrackersOptions) -> None:
    """Send the events of a study to each tracker, and print what that takes."""
    with user_errors():
        database, names = open_studies(options.study, options.storage, options.storage_wait_s, baselines=True)
        with database.closing():
            began = time.process_time()
            trials = trials_with_news(database, names, 0.0)
            events = [event for trial in trials for event in events_of(trial, metrics_of(database, trial.study))]
            reading_s = time.process_time() - began
        print(f"{len(events)} events of {len(trials)} trials, read at once in {1000 * reading_s:.0f} ms\n")
        print("| tracker | start and end, s | an event, ms | all, s |\n|---|--:|--:|--:|")
        for text in TRACKERS:
            print(_row(text, events, options.rounds))


def _row(text: str, events: Sequence[Event], rounds: int) -> str:
    few = min(_processor_s(text, events[:1]) for _ in range(rounds))
    whole = min(_processor_s(text, events) for _ in range(rounds))
    each_ms = 1000 * (whole - few) / (len(events) - 1)
    return f"| `{text.partition(':')[0]}` | {few:.2f} | {each_ms:.2f} | {whole:.2f} |"


def _processor_s(text: str, events: Sequence[Event]) -> float:
    """The processor time of a process that sends events, in seconds."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=_send, args=(text, events, folder, results))
        process.start()
        process.join()
        return float(results.get())


def _send(text: str, events: Sequence[Event], folder: str, results: multiprocessing.SimpleQueue[float]) -> None:
    os.environ["WANDB_MODE"] = "offline"
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MLflow tells that it makes tables
    with chdir(folder):
        if text.startswith("mlflow:"):
            from mlflow import MlflowClient

            MlflowClient(text.partition(":")[2])
        before = _spent()
        _deliver(text, events)
    results.put(_spent() - before)


def _deliver(text: str, events: Sequence[Event]) -> None:
    tracker = make_tracker("--track", text)
    for event in events:
        tracker.track(event)
    tracker.close()


def _spent() -> float:
    usages = [resource.getrusage(which) for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


app = new_program(measure, TrackersOptions, (("the built-in study", "--study bigram"),))

if __name__ == "__main__":
    app()
