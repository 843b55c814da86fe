"""The `trial` that user code gets: an `optuna.Trial` whose writes need the worker's lease, with a few additions."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.errors import UsageError
from search.objectives.settings import TrainingSettings
from search.storage.errors import LeaseLost, StorageUnavailable
from search.storage.leased_writes import LeasedWrites
from search.storage.leases import Lease, Report
from search.storage.optuna_storage import SearchStorage
from search.storage.optuna_tables import ENQUEUED, FIXED
from search.storage.private_files import make_private_folder
from search.storage.queue import TrialQueue
from search.storage.slots import slot_of
from search.storage.trial_storage import TrialStorage
from search.strategies.auto_seeds import needed_cells
from search.strategies.pruning_judge import PruningJudge
from search.strategies.samplers import make_sampler
from search.strategies.shared_knowledge import SharedKnowledge
from search.study.stored import StoredStudy
from search.workers.user_study import UserStudy

log = logging.getLogger("search.worker")

SECONDS = "@seconds"  # beside the metrics of an evaluation: how long the trial had trained


class TrialInterrupted(BaseException):
    """Ends user code that must not go on: the worker stops, or has lost the trial or the database.

    A BaseException, because objectives catch Exception.

    Attributes:
        error: Why; None when the worker was asked to stop.
    """

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__("the worker was asked to stop" if error is None else str(error))
        self.error = error


class UserTrial(optuna.Trial):
    """A trial while it runs; made by `UserTrials`.

    Attributes:
        attempt: Counts the attempts of the trial, from 1.
        resumed: Whether an earlier attempt has begun it.
        settings: The study's settings.
        kept: The files to keep of the trial: paths by name.
        logged: The further metrics of this attempt, by step.
        interrupted: What ended the user code, if anything did, even if it was caught there.
    """

    def __init__(
        self,
        study: UserStudy,
        writes: LeasedWrites,
        folder: Path,
        settings: TrainingSettings,
        check: Callable[[], bool],
    ) -> None:
        self._writes, self._folder, self._check = writes, folder, check
        self.attempt, self.resumed = writes.lease.token, writes.lease.token > 1
        self.settings = settings
        self.kept: dict[str, Path] = {}
        self.logged: dict[int, dict[str, float]] = {}
        self.interrupted: TrialInterrupted | None = None
        self._reported: set[int] = set()
        self._suggested: set[str] = set()
        self.seconds: Callable[[], float] | None = None
        super().__init__(study, writes.lease.trial_id)

    @property
    def relative_params(self) -> dict[str, Any]:
        """The values that the sampler chose together, stored so that another attempt has the same ones."""
        if self._relative_params is None:
            chosen = super().relative_params
            if chosen:
                self.storage.set_trial_system_attr(self._trial_id, FIXED, {**chosen, **self._fixed_params})
        return super().relative_params

    @property
    def folder(self) -> Path:
        """A folder of this trial alone, the same in each attempt."""
        try:
            make_private_folder(self._folder)
        except OSError as error:
            raise UsageError(
                f"cannot make the trial's folder {self._folder} ({error.strerror}); give another --out"
            ) from error
        return self._folder

    def keep(self, path: str | Path) -> None:
        """Keep a file as an artifact of the trial, as it is when the trial ends.

        Args:
            path: The file; a relative path is in `folder`.
        """
        found = self._folder / path
        name = found.relative_to(self._folder).as_posix() if found.is_relative_to(self._folder) else found.name
        self.kept[name] = found

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Store further metrics of a step.

        Args:
            metrics: Numbers by name.
        """
        named, step = {str(name): float(value) for name, value in metrics.items()}, int(step)
        self._guarded(lambda: self._writes.metrics(step, named))
        self.logged.setdefault(step, {}).update(named)

    def report(self, value: float, step: int) -> None:
        """As `optuna.Trial.report`; also for a study with several metrics, of which it is the first."""
        try:
            value, step = float(value), int(step)
        except (TypeError, ValueError):
            raise TypeError(f"report({value!r}, {step!r}): give a number, and a whole number as step") from None
        if step < 0:
            raise ValueError(f"report: step = {step} must not be negative")
        if step in self._reported:
            warnings.warn(f"step {step} was reported already; the new value is ignored", stacklevel=2)
            return
        values = self._cached_frozen_trial.intermediate_values
        later = [each for each in values if each >= step and each not in self._reported]
        seconds = {} if self.seconds is None else {SECONDS: self.seconds()}
        metrics = {**self.logged.get(step, {}), **seconds}
        report = Report(self._writes.lease, step, None, value, metrics)
        self._guarded(lambda: self._writes.report(report, replaces_later=bool(later)))
        for each in later:
            del values[each]
        self._reported.add(step)
        values[step] = value

    def should_prune(self) -> bool:
        """As `optuna.Trial.should_prune`; also for a study with several metrics, and by one that was logged.

        Raises:
            UsageError: The newest report lacks the metric of the study's pruner.
        """
        return bool(self._guarded(lambda: self.study.pruner.prune(self.study, self._cached_frozen_trial)))

    def _suggest(self, name: str, distribution: Any) -> Any:
        self._suggested.add(name)
        return self._guarded(lambda: super(UserTrial, self)._suggest(name, distribution))

    def check_parameters(self) -> None:
        """Check that this attempt has suggested what the earlier ones have.

        Raises:
            UsageError: It has not.
        """
        if unused := [name for name in self.frozen.system_attrs.get(ENQUEUED, ()) if name not in self._suggested]:
            log.warning(
                "trial %d: %s was enqueued, but the objective did not suggest it; it suggests %s",
                self.number,
                ", ".join(unused),
                ", ".join(sorted(self._suggested)) or "nothing",
            )
        if missing := [name for name in self.params if name not in self._suggested]:
            raise UsageError(
                f"attempt {self.attempt} did not suggest {', '.join(missing)}, as an earlier one did; which parameters "
                "an objective suggests may depend on other parameters only"
            )

    def set_user_attr(self, key: str, value: Any) -> None:
        """As `optuna.Trial.set_user_attr`."""
        self._guarded(lambda: super(UserTrial, self).set_user_attr(key, value))

    def set_constraint(self, key: str, value: float) -> None:
        """As `optuna.Trial.set_constraint`."""
        self._guarded(lambda: super(UserTrial, self).set_constraint(key, value))

    def check(self) -> None:
        """Raise TrialInterrupted if the trial must not go on."""
        if self.interrupted is None and self._check():
            self.interrupted = TrialInterrupted()
        if self.interrupted is not None:
            raise self.interrupted

    def _guarded(self, act: Callable[[], Any]) -> Any:
        self.check()
        try:
            return act()
        except (LeaseLost, StorageUnavailable) as error:
            self.interrupted = TrialInterrupted(error)
            raise self.interrupted from error

    @property
    def frozen(self) -> FrozenTrial:
        """The trial as it is now."""
        return self._cached_frozen_trial


class UserTrials:
    """Makes the trials of one study in this worker.

    Args:
        queue: Where the leases are from.
        folder_of: The folder of a trial's own files.
        settings: What user code gets as `trial.settings`.
        check: Called at each call of a trial: whether it has to stop.
    """

    def __init__(
        self,
        backend: SearchStorage,
        stored: StoredStudy,
        queue: TrialQueue,
        folder_of: Callable[[Lease], Path],
        settings: TrainingSettings,
        check: Callable[[], bool],
    ) -> None:
        self._stored, self._queue, self._folder_of = stored, queue, folder_of
        self._settings, self._check = settings, check
        self._backend, self._storage = backend, TrialStorage(backend, stored.name)
        self._judge: PruningJudge | None = None
        self._study: UserStudy | None = None
        self._shared = SharedKnowledge()

    def make(self, lease: Lease) -> UserTrial:
        """Make the trial of a lease; the one before must have ended.

        Raises:
            LeaseLost: Another worker has the trial.
        """
        writes = LeasedWrites(self._queue, lease)
        self._storage.begin(writes)
        sampler = self._sampler(lease)
        if self._study is None:
            metrics = self._stored.definition.metrics
            # A pruner compares one metric.
            history = self._storage if len(metrics) == 1 else None
            settings = self._stored.settings.pruner
            self._judge = PruningJudge(
                self._backend, self._stored.name, settings, metrics, history, needed_cells(self._stored)
            )
            self._study = UserStudy(self._stored.name, self._storage, sampler, _JudgePruner(self._judge))
        assert self._judge is not None, "made with the study"
        self._judge.expire()
        self._study.begin_trial(sampler)
        return UserTrial(self._study, writes, self._folder_of(lease), self._settings, self._check)

    def after(self, trial: UserTrial, state: TrialState, values: Sequence[float] | None) -> dict[str, Any]:
        """Let the sampler see the end of a trial.

        Returns:
            What it stores on the trial, to be written with its end.
        """
        self._storage.kept_attrs = {}
        trial.study.sampler.after_trial(trial.study, trial.frozen, state, values)
        return self._storage.kept_attrs

    def has_stopped(self) -> bool:
        """Whether an objective has called `trial.study.stop()`."""
        return self._study is not None and self._study.has_stopped

    def end(self) -> None:
        """Let go of the trial."""
        self._storage.end()

    def _sampler(self, lease: Lease) -> BaseSampler:
        definition = self._stored.definition
        if not definition.suggests_parameters or definition.sampler is None:
            return RandomSampler(seed=0)  # its parameters are given
        # By slot: with one seed for all, each worker would draw the same points.
        return self._shared.share(make_sampler(definition.sampler, self._stored.first_seed, slot_of(lease.cell)))


class _JudgePruner(BasePruner):
    """The study's pruner, as Optuna calls it."""

    def __init__(self, judge: PruningJudge) -> None:
        self._judge = judge

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return self._judge.should_prune(trial, at_each_report=True)
