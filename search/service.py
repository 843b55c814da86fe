"""Runs a study: plan, launch, watch, report; called by the command line and by notebooks."""

from __future__ import annotations

import shlex
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from textwrap import indent
from typing import Any

from search.errors import EXIT_FAILED_TRIALS, EXIT_STOPPED, UsageError
from search.hints import command_of
from search.launchers.protocol import Launcher, Places, WorkerJob
from search.launchers.registry import make_launcher
from search.option_fields import as_docstring, python_signature
from search.options import RunStudyOptions, WorkerOptions
from search.planning import open_planned, warn_of_other_code
from search.reporting.progress import Snapshot, progress_display
from search.statistics.ranking import Row, is_reached, ranked_rows
from search.storage.artifact_store import ARTIFACTS_FOLDER
from search.storage.checkpoint_store import CheckpointStore
from search.storage.database import Database
from search.storage.queries import counts, study_uids
from search.storage.queue import TrialQueue
from search.storage.url import display_url
from search.study.planner import Study
from search.trackers.feed import tracking
from search.trackers.registry import make_trackers
from search.web.background import dashboard_process
from search.web.dashboard_publisher import publish_periodically
from search.workers.profile import clear_profiles, summed_profiles
from search.workers.stop_signals import STOP_SIGNALS, set_by_stop_signals, stopped_exit_code

POLL_S = 0.5
MAX_POLL_S = 5.0


@dataclass(frozen=True)
class StudyResult:
    """The result of a run.

    Attributes:
        study: The study's name in the database.
        storage: The storage URL.
        rows: The ranked table.
        counts: The number of trials by state.
        seconds: How long the run took.
        exit_code: The exit code of the command line.
        profile: The workers' time in seconds by kind of work; empty without `profile`.
        target: The loss at which the run stops; None for none.
    """

    study: str
    storage: str
    rows: list[Row]
    counts: dict[str, int]
    seconds: float
    exit_code: int
    profile: dict[str, float] = field(default_factory=dict)
    target: float | None = None

    @property
    def target_reached(self) -> bool | None:
        """Whether a complete trial has at most the loss `target`; None without a target."""
        return is_reached(self.target, self.rows)


def run_study(study: str = "bigram", **options: Any) -> StudyResult:
    """Plan a study, train its remaining trials in parallel workers, and return the ranked table.

    Paths may be strings; `settings` is a mapping, such as {"n_embd": [64, 128], "max_iters": 200},
    or strings as for `--set`.

    Args:
        {arguments}

    Returns:
        The table, the counts, and the exit code that `search.run` would return.

    Raises:
        UsageError, ModelError, ObjectiveError, StorageError: An error that the user can fix.
    """
    return run_with_options(RunStudyOptions.from_keywords({"study": study, **options}))


# From the declarations of the options, for `help(run_study)` and for editors.
_ARGUMENTS = indent(as_docstring(RunStudyOptions), " " * 8).lstrip()
run_study.__doc__ = (run_study.__doc__ or "").replace("{arguments}", _ARGUMENTS)
run_study.__signature__ = python_signature(  # type: ignore[attr-defined]
    RunStudyOptions, StudyResult, study="bigram"
)


def run_with_options(options: RunStudyOptions) -> StudyResult:
    """Run a study; see `run_study`."""
    started = time.monotonic()
    launcher = make_launcher(options.launcher, Places(options.devices, options.workers), options.study)
    trackers = make_trackers(options.track, options.study)
    database, planned = open_planned(options)
    with (
        database.closing(),
        _stop_requests(database.interrupt) as received,
        tracking(database, planned.names, trackers),
    ):
        warn_of_other_code(database, planned)
        queue = TrialQueue(database, uids=study_uids(database, planned.names))
        unfinished = queue.unfinished(planned.names)
        interrupted = False
        if unfinished and not options.plan_only:
            clear_profiles(options.out)
            logs = options.out / planned.name / "logs"
            CheckpointStore(options.out).mark_folder(planned.name, queue.uids[planned.name])
            arguments = _worker_options(options, planned).as_arguments()
            job = WorkerJob(arguments, options.storage, logs, on_death=queue.abandon)
            deadline = None if options.timeout_s is None else started + options.timeout_s
            artifacts = options.artifacts or str(options.out / ARTIFACTS_FOLDER)
            with (
                publish_periodically(database, planned.names),
                dashboard_process(options.storage, artifacts) if options.dashboard else nullcontext(),
            ):
                interrupted = _train(
                    database, planned, launcher, unfinished, job, deadline, options.target, options.quiet
                )
        _check_not_deleted(queue, planned, options)
        found = counts(database, planned.names)
        exit_code = _exit_code(found, interrupted, received)
        rows = ranked_rows(database, planned.names)
        spent = summed_profiles(options.out) if options.profile else {}
        seconds = time.monotonic() - started
        return StudyResult(planned.name, options.storage, rows, found, seconds, exit_code, spent, options.target)


def _check_not_deleted(queue: TrialQueue, study: Study, options: RunStudyOptions) -> None:
    if gone := queue.deleted(study.names):
        raise UsageError(
            f"the study {gone[0]!r} was deleted from {display_url(options.storage)} while it ran; plan it again with: "
            f"{command_of('run')} --study {shlex.quote(options.study)}"
        )


def _worker_options(options: RunStudyOptions, study: Study) -> WorkerOptions:
    """Return the options of the workers of a planned study; they read the definition from the database."""
    corpus = options.corpus or study.definition.corpus
    return options.shared_with(
        WorkerOptions,
        study=study.name,
        name=None,
        baselines=study.with_baselines,
        corpus=corpus,
        modules=study.modules,
    )


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
    """Run the workers until all trials have ended, the target is met, the deadline passes, or a signal arrives.

    Returns:
        True if trials are left: a signal, the deadline or an outside stop of the workers interrupted the run.
    """
    stop = database.interrupt
    with progress_display(quiet, study.name, study.definition.training.max_iters) as progress:
        snapshot = Snapshot(database, study.names)
        progress.show(snapshot, 0)  # do not announce trials that ended before
        if _is_met(target, snapshot):
            return False
        try:
            launcher.start(unfinished, job)
            snapshot_s = 0.0
            while launcher.running and not stop.is_set():
                # A snapshot of 10,000 trials is slow; spend at most a twentieth of the time on snapshots.
                stop.wait(min(max(POLL_S, 20 * snapshot_s), MAX_POLL_S))
                launcher.tend()
                began = time.monotonic()
                snapshot = Snapshot(database, study.names)
                snapshot_s = time.monotonic() - began
                progress.show(snapshot, launcher.running)
                if _is_met(target, snapshot):
                    return False
                if deadline is not None and time.monotonic() >= deadline:
                    return snapshot.done < snapshot.total
            snapshot = Snapshot(database, study.names)
            progress.show(snapshot, 0)
            # Workers that were stopped from outside end before all trials do.
            return stop.is_set() or snapshot.done < snapshot.total
        finally:
            launcher.stop()


def _is_met(target: float | None, snapshot: Snapshot) -> bool:
    best = snapshot.best.val_loss if snapshot.best is not None else None
    return target is not None and best is not None and best <= target


@contextmanager
def _stop_requests(stop: threading.Event) -> Iterator[list[int]]:
    """Make stop signals set the event; a second signal does what it did before.

    Yields:
        The signals that have arrived.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread receives signals
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            if handler is not None:  # installed by a library, not from Python
                signal.signal(number, handler)

    def note(number: int) -> None:
        received.append(number)
        restore()

    with set_by_stop_signals(stop, note):
        try:
            yield received
        finally:
            restore()


def _exit_code(found: Mapping[str, int], interrupted: bool, received: Sequence[int]) -> int:
    if interrupted:
        return stopped_exit_code("run", received[0]) if received else EXIT_STOPPED
    return EXIT_FAILED_TRIALS if found["failed"] or found["diverged"] else 0
