"""Runs a study from options to result; the command line and notebooks both come here."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from search.errors import EXIT_FAILED_TRIALS, EXIT_INTERRUPTED
from search.launchers.protocol import Launcher, Places, WorkerJob
from search.launchers.registry import make_launcher
from search.options import DEFAULT_FUSE, DEFAULT_OUT, DEFAULT_STORAGE, DEFAULT_STORAGE_WAIT_S
from search.planning import StudyOptions, open_planned
from search.reporting.progress import Snapshot, progress_display
from search.statistics.ranking import Row, ranked_rows
from search.storage.artifact_store import ARTIFACTS_FOLDER
from search.storage.database import Database
from search.storage.queries import counts
from search.storage.queue import TrialQueue
from search.study.planner import Study
from search.web.background import dashboard_process
from search.web.dashboard_publisher import publishing
from search.workers.profile import clear_profiles, summed_profiles

POLL_S = 0.5
MAX_POLL_S = 5.0


@dataclass(frozen=True)
class StudyResult:
    """What a run came to.

    Attributes:
        rows: The ranked table.
        counts: How many trials are in which state.
        exit_code: As the command line returns it.
        profile: Where the workers' time went, in seconds by kind of work; empty unless asked for.
    """

    study: str
    storage: str
    rows: list[Row]
    counts: dict[str, int]
    seconds: float
    exit_code: int
    profile: dict[str, float] = field(default_factory=dict)


def run_study(
    study: str = "bigram",
    *,
    storage: str = DEFAULT_STORAGE,
    name: str | None = None,
    workers: str | int = "auto",
    devices: str = "auto",
    seeds: int | None = None,
    pruner: str | None = None,
    settings: Mapping[str, Any] | Sequence[str] = (),
    baselines: bool = True,
    corpus: Path | str | None = None,
    out: Path | str = DEFAULT_OUT,
    artifacts: str | None = None,
    storage_wait_s: float = DEFAULT_STORAGE_WAIT_S,
    timeout_s: float | None = None,
    target: float | None = None,
    dashboard: bool = False,
    plan_only: bool = False,
    fuse: str = DEFAULT_FUSE,
    profile: bool = False,
    warm_start: str | None = None,
    quiet: bool = False,
) -> StudyResult:
    """Plan a study, train what is missing of it in parallel workers, and return the ranked table.

    Args:
        study: A built-in study, or the path of a study file.
        storage: The storage URL.
        name: The study's name in the database; None is that of the definition.
        workers: How many worker processes; "auto" is one a GPU, or one a core.
        devices: "auto", "cpu", "cuda" or "cuda:0,1".
        seeds: Trials of each cell; None is as the definition says.
        pruner: "none", "top", "median", "sha" or "hyperband"; None is as the definition says.
        settings: Overrides of axes and settings: {"n_embd": [64, 128], "max_iters": 200}, or texts as for `--set`.
        baselines: Whether to train the study's baselines too.
        corpus: A UTF-8 text file; None is that of the study file, else tiny shakespeare.
        out: Folder of checkpoints and logs.
        artifacts: Where the files of finished trials are kept: a folder, s3://bucket/prefix, or "none"; None is the
            folder "artifacts" in `out`.
        storage_wait_s: How long to wait for a database that is starting, in seconds.
        timeout_s: Stop after so many seconds; running trials go back to the queue with a checkpoint.
        target: Stop as soon as a trial is complete with a validation loss of at most this.
        dashboard: Serve the dashboard beside the run, and print its address.
        plan_only: Plan the study and train nothing.
        fuse: Trials of one shape that a worker trains as one model: "auto", "off", or a number.
        warm_start: A study in the same database whose complete cells the sampler is shown.
        profile: Measure where the workers' time goes.
        quiet: Show no progress.

    Raises:
        UsageError, ModelError, ObjectiveError, StorageError: What the user can mend; one line each.
    """
    started = time.monotonic()
    options = StudyOptions(
        study=study,
        storage=storage,
        name=name,
        seeds=seeds,
        pruner=pruner,
        settings=_as_texts(settings),
        baselines=baselines,
        corpus=None if corpus is None else Path(corpus),
        out=Path(out),
        artifacts=artifacts,
        storage_wait_s=storage_wait_s,
        fuse=fuse,
        warm_start=warm_start,
    )
    launcher = make_launcher("local", Places(devices, str(workers)), study)
    database, planned = open_planned(options)
    with database.closing():
        queue = TrialQueue(database)
        unfinished = queue.unfinished(planned.names)
        interrupted = False
        if unfinished and not plan_only:
            arguments = [*_worker_arguments(options, planned), *(["--profile"] if profile else [])]
            clear_profiles(options.out)
            logs = options.out / planned.name / "logs"
            job = WorkerJob(arguments, storage, logs, on_death=queue.abandon)
            deadline = None if timeout_s is None else started + timeout_s
            kept_in = artifacts or str(options.out / ARTIFACTS_FOLDER)
            with (
                publishing(database, planned.names),
                dashboard_process(storage, kept_in) if dashboard else nullcontext(),
            ):
                interrupted = _train(database, planned, launcher, unfinished, job, deadline, target, quiet)
        found = counts(database, planned.names)
        exit_code = EXIT_INTERRUPTED if interrupted else _exit_code(found)
        rows = ranked_rows(database, planned.names)
        seconds, spent = time.monotonic() - started, summed_profiles(options.out) if profile else {}
        return StudyResult(planned.name, storage, rows, found, seconds, exit_code, spent)


def _as_texts(settings: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    if isinstance(settings, str):
        return (settings,)
    if not isinstance(settings, Mapping):
        return tuple(settings)
    lists = {key: value if isinstance(value, (list, tuple)) else [value] for key, value in settings.items()}
    return tuple(f"{key}={','.join(map(str, values))}" for key, values in lists.items())


def _worker_arguments(options: StudyOptions, study: Study) -> list[str]:
    # The study is planned, so its name says everything; all but the corpus and the folder is in the database.
    arguments = ["--study", study.name, "--out", str(options.out), "--fuse", options.fuse]
    corpus = study.definition.corpus if options.corpus is None else str(options.corpus)
    if corpus is not None:
        arguments += ["--corpus", corpus]
    if study.modules is not None:
        arguments += ["--modules", str(study.modules)]
    if options.artifacts is not None:
        arguments += ["--artifacts", options.artifacts]
    return arguments if study.with_baselines else [*arguments, "--no-baselines"]


def _train(
    database: Database,
    study: Study,
    launcher: Launcher,
    unfinished: int,
    job: WorkerJob,
    deadline: float | None,
    target: float | None,
    quiet: bool,
) -> bool:
    """Run the workers until all trials have ended, the target is met, or somebody stops us.

    Returns:
        True when it was stopped before its end.
    """
    with (
        _stop_requests(database.interrupt) as stop,
        progress_display(quiet, study.definition.training.max_iters) as progress,
    ):
        snapshot = Snapshot(database, study.names)
        progress.show(snapshot, 0)  # what has ended before is not news
        if _is_met(target, snapshot):
            return False
        try:
            launcher.start(unfinished, job)
            looking_s = 0.0
            while launcher.running and not stop.is_set():
                # Looking at a study of 10,000 trials takes a while; it shall not cost more than it is worth.
                stop.wait(min(max(POLL_S, 20 * looking_s), MAX_POLL_S))
                launcher.tend()
                began = time.monotonic()
                snapshot = Snapshot(database, study.names)
                looking_s = time.monotonic() - began
                progress.show(snapshot, launcher.running)
                if _is_met(target, snapshot):
                    return False
                if deadline is not None and time.monotonic() >= deadline:
                    return snapshot.done < snapshot.total
            snapshot = Snapshot(database, study.names)
            progress.show(snapshot, 0)
            # All workers may have ended before the trials did: somebody stopped them.
            return stop.is_set() or snapshot.done < snapshot.total
        finally:
            launcher.stop()


def _is_met(target: float | None, snapshot: Snapshot) -> bool:
    best = snapshot.best.val_loss if snapshot.best is not None else None
    return target is not None and best is not None and best <= target


@contextmanager
def _stop_requests(stop: threading.Event) -> Iterator[threading.Event]:
    """Have SIGINT and SIGTERM set the event; a second one ends the program at once."""
    if threading.current_thread() is not threading.main_thread():
        yield stop  # a notebook's thread gets no signals
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask_to_stop(_signal: int, _frame: FrameType | None) -> None:
        stop.set()
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, ask_to_stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_code(found: Mapping[str, int]) -> int:
    return EXIT_FAILED_TRIALS if found["failed"] or found["diverged"] else 0
