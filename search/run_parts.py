"""The parts of a run that train: workers are started for each, watched, and stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from search.launchers.protocol import Detaches, Launcher, OnDeath, WorkerJob
from search.objectives.corpus import split_source
from search.options import RunStudyOptions, WorkerOptions
from search.reporting.progress import Progress, Snapshot, progress_display
from search.reporting.unpruned import IdlePruner
from search.storage.artifact_store import ARTIFACTS_FOLDER
from search.storage.checkpoint_store import CheckpointStore
from search.storage.database import Database
from search.storage.queries import counts, study_uids
from search.storage.queue import TrialQueue
from search.storage.url import storage_anywhere
from search.streams import write_line
from search.study.formatting import count_text
from search.study.metrics import Metric
from search.study.planner import Study
from search.study.stored import read_stored_study
from search.study.text_unit import TextUnit
from search.web.publisher_thread import publish_periodically
from search.workers.profile import clear_profiles

POLL_S = 0.5
# Snapshots take time from the workers, and those of 10,000 trials are slow: they get at most a hundredth of a core and
# a twentieth of the time, but progress is never older than a few seconds.
CORE_SHARE, TIME_SHARE, MAX_SNAPSHOT_AGE_S = 0.01, 0.05, 5.0


@dataclass(frozen=True)
class _Part:
    """A part of a run.

    Attributes:
        names: The studies that are trained.
        metrics: What ranks their trials.
        target: The value at which it stops; None for none.
        idle_pruner: Warns of trials that a pruner cannot judge.
        title: What the progress is called.
        loss_unit: What the values of its trials are per; None unless they are losses of a language model.
    """

    title: str
    names: Sequence[str]
    metrics: Sequence[Metric]
    target: float | None
    idle_pruner: IdlePruner | None
    loss_unit: TextUnit | None = None


@dataclass
class RunParts:
    """Trains the study of a run, then its confirmation.

    Attributes:
        deadline: When to stop, as `time.monotonic` counts; None for never.
        around: What lasts for all parts, such as the dashboard, is entered when the first one begins.
    """

    database: Database
    planned: Study
    options: RunStudyOptions
    deadline: float | None
    around: ExitStack
    _has_begun: bool = field(default=False, init=False)

    def study(self, launcher: Launcher) -> bool:
        """Train what is left of the study and its baselines.

        Args:
            launcher: A new one.

        Returns:
            True if trials are left: a signal, the deadline or an outside stop of the workers interrupted the run.
        """
        planned = self.planned
        metrics = planned.definition.ranked_metrics(planned.metric)
        pruner = IdlePruner(planned.definition)
        stored = read_stored_study(self.database, planned.name)
        unit = None if stored is None else stored.loss_unit
        return self._train(_Part(planned.name, planned.names, metrics, self.options.target, pruner, unit), launcher)

    def confirmation(self, name: str, launcher: Launcher) -> bool:
        """Train what is left of the study's confirmation; returns the same."""
        stored = read_stored_study(self.database, name)
        assert stored is not None, "it was just planned"
        part = _Part(f"confirming {self.planned.name}", [name], stored.definition.metrics, None, None, stored.loss_unit)
        if (left := counts(self.database, [name])["waiting"]) and not self.options.quiet:
            write_line(f"{part.title}: {count_text(left, 'trial')} with fresh seeds", sys.stderr)
        return self._train(part, launcher)

    def _train(self, part: _Part, launcher: Launcher) -> bool:
        options, database = self.options, self.database
        queue = TrialQueue(database, uids=study_uids(database, part.names))
        unfinished = queue.unfinished(part.names)
        if not unfinished or options.plan_only:
            return False
        if database.interrupt.is_set():
            return True
        self._begin()
        CheckpointStore(options.out).mark_folder(part.names[0], queue.uids[part.names[0]])
        job = worker_job(options, self.planned, queue.abandon, lambda: queue.unfinished(part.names))
        with progress_display(options.quiet, part.title, self.planned.definition.training.max_iters) as progress:
            return self._watch(part, job, unfinished, launcher, progress)

    def _begin(self) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        options = self.options
        clear_profiles(options.out)
        self.around.enter_context(publish_periodically(self.database, self.planned.names))
        if options.dashboard:
            from search.web.background import dashboard_process

            artifacts = options.artifacts or str(options.out / ARTIFACTS_FOLDER)
            self.around.enter_context(dashboard_process(options.storage, artifacts))

    def _watch(self, part: _Part, job: WorkerJob, unfinished: int, launcher: Launcher, progress: Progress) -> bool:
        """Run the workers until all trials have ended, the target is met, the deadline passes, or a signal arrives."""
        stop = self.database.interrupt
        snapshot = Snapshot(self.database, part.names, part.metrics, part.loss_unit)
        progress.show(snapshot, 0)  # do not announce trials that ended before
        if _is_met(part.target, snapshot):
            return False
        if self.options.detach and isinstance(launcher, Detaches):
            launcher.start(unfinished, job)
            write_line(f"detached: {launcher.detach()}; the same command without --detach watches them", sys.stderr)
            return True
        try:
            launcher.start(unfinished, job)
            next_snapshot = 0.0
            while launcher.running and not stop.is_set():
                stop.wait(POLL_S)
                launcher.tend()
                began, cpu_began = time.monotonic(), time.thread_time()
                if began < next_snapshot and (self.deadline is None or began < self.deadline):
                    continue
                snapshot = Snapshot(self.database, part.names, part.metrics, part.loss_unit)
                now, cpu_s = time.monotonic(), time.thread_time() - cpu_began
                next_snapshot = now + min(max(cpu_s / CORE_SHARE, (now - began) / TIME_SHARE), MAX_SNAPSHOT_AGE_S)
                progress.show(snapshot, launcher.running)
                if part.idle_pruner is not None:
                    part.idle_pruner.look(snapshot)
                if _is_met(part.target, snapshot):
                    return False
                if self.deadline is not None and now >= self.deadline:
                    return snapshot.done < snapshot.total
            snapshot = Snapshot(self.database, part.names, part.metrics, part.loss_unit)
            progress.show(snapshot, 0)
            if part.idle_pruner is not None:
                part.idle_pruner.look(snapshot, is_last=True)
            # Workers that were stopped from outside end before all trials do.
            return stop.is_set() or (snapshot.done < snapshot.total and not _is_met(part.target, snapshot))
        finally:
            launcher.stop()


def worker_job(
    options: RunStudyOptions, study: Study, on_death: OnDeath, unfinished: Callable[[], int] = lambda: 0
) -> WorkerJob:
    """The job of the workers of a planned study; see `WorkerJob` for the arguments."""
    worker = _worker_options(options, study)
    corpus = None if worker.corpus is None else Path(_in_copy(str(worker.corpus), study.modules or Path.cwd()))
    return WorkerJob(
        worker.as_arguments(),
        storage_anywhere(options.storage),
        options.out / study.name / "logs",
        on_death=on_death,
        unfinished=unfinished,
        study=study.name,
        remote_arguments=replace(worker, corpus=corpus).as_arguments(without=("out", "modules")),
    )


def _in_copy(corpus: str, folder: Path) -> str:
    """A text in the study's folder as one in a copy of it that is the working directory; any other text as it is."""
    prefix, path = split_source(corpus)
    file, folder = Path(path).resolve(), folder.resolve()
    return f"{prefix}{file.relative_to(folder)}" if file.is_relative_to(folder) else corpus


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


def _is_met(target: float | None, snapshot: Snapshot) -> bool:
    best = snapshot.best.val_loss if snapshot.best is not None else None
    return target is not None and best is not None and snapshot.metric.is_met(target, best)
