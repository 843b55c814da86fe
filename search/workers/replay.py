"""Runs a trial again from its record in the database and compares the losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from search.errors import USER_ERRORS, UsageError
from search.objectives.corpus import Corpus
from search.objectives.protocol import Attempt, Closes, Evaluation, KnowsAttempt, Objective, ObjectiveCall, TrainingRun
from search.objectives.settings import read_settings
from search.storage.database import Database
from search.storage.queries import TrialSummary, trial_summaries
from search.storage.texts import error_text
from search.study.cells import objective_values, without_seed
from search.study.corpus import corpus_as_planned, corpus_difference
from search.study.formatting import loss_text, ranges_text
from search.study.no_arguments import without_arguments
from search.study.stored import StoredStudy, read_stored_study
from search.study.trial_facts import ENVIRONMENT, FLAT_LAYOUT_VERSION, TrialFacts, trial_facts
from search.study.user_modules import resolve_objective, user_sources
from search.workers.devices import check_device
from search.workers.provenance import environment
from search.workers.replayed_trial import ReplayedTrial, replay_call
from search.workers.setup import prepare_process

# Other processors and versions round differently, and thousands of steps amplify the difference. An independent
# implementation with other random numbers came within 0.02 of our losses in every cell that is not chaotic (see
# docs/results/reference.md); a larger difference with the same random numbers has another cause.
TOLERANCE = 0.02  # nats per character; of the built-in objective
# The unit of another objective is unknown, so its tolerance is a share of the recorded value.
RELATIVE_TOLERANCE = 0.001
CHAOS = (
    "some cells are chaotic: their seeds differ by up to 0.15 (docs/results/reference.md), and there the rounding of "
    "another machine can change the loss as much as another seed; to be sure, replay on the original machine"
)
UNSEEDED = (
    "nothing that is recorded differs: a random number may not come from the seed, or a file or module that the "
    "objective reads may have changed"
)
# The losses depend on these to the last digit. Optuna and lm-search do not affect them: their changes are only shown.
DECISIVE = ("torch", "numpy", "code", "python", "system", "machine", "processor", "device", "threads", "gpu")
BOOKKEEPING = ("optuna", "lm-search")
RECORD = "record"  # the name of the difference of a trial without a record


@dataclass(frozen=True)
class RecordedTrial:
    """A trial as stored in the database."""

    study: StoredStudy
    trial: TrialSummary

    @property
    def facts(self) -> TrialFacts:
        """What the worker stored; `environment` is None if an older version trained the trial."""
        return trial_facts(self.trial.attrs)


@dataclass(frozen=True)
class Comparison:
    """The losses of a trial and of its replay.

    Attributes:
        study: The study's name.
        trial: The trial's number.
        step: The step after which the losses are compared; None for the result of a function that reported none.
        recorded: The last validation loss of the trial; None when it was not finite.
        again: The validation loss of the replay after the same step; None when it was not finite.
        tolerance: The largest difference that counts as a match; None requires equality.
        relative: Whether the tolerance is a share of the recorded loss, as for an objective of the user's own.
        different: Names of what differs and can change a loss, such as "code" or "device".
        differs: Differences in versions, sources and machine, one line each.
    """

    study: str
    trial: int
    step: int | None
    recorded: float | None
    again: float | None
    tolerance: float | None
    relative: bool
    different: tuple[str, ...]
    differs: tuple[str, ...]

    @property
    def met(self) -> bool:
        """Whether the losses match."""
        if self.recorded is None or self.again is None:
            return self.recorded is self.again
        allowed = (self.tolerance or 0.0) * (abs(self.recorded) if self.relative else 1.0)
        return abs(self.again - self.recorded) <= allowed

    @property
    def exact(self) -> bool:
        """Whether the losses are equal."""
        return self.recorded == self.again

    @property
    def verdict(self) -> str:
        """Whether the losses match, despite which differences, and within which tolerance."""
        result = "match" if self.met else "no match"
        if self.different:
            result += f", {'but' if self.met else 'and'} {_difference_text(self.different)}"
        return f"{result} ({self._precision})"

    @property
    def _precision(self) -> str:
        if self.exact or self.tolerance is None:
            return "exact"
        return f"tolerance {self.tolerance:.3g}" if not self.relative else f"tolerance {100 * self.tolerance:.3g} %"

    @property
    def advice(self) -> str:
        """What can explain that the losses do not match; "" if they do, or if what differs explains it."""
        if self.met:
            return ""
        if self.relative or self.tolerance is None:
            return "" if self.different else UNSEEDED
        return CHAOS

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON-able values."""
        return {**asdict(self), "met": self.met, "exact": self.exact, "verdict": self.verdict}


def _difference_text(names: Sequence[str]) -> str:
    if names == (RECORD,):
        return "the trial has no record of code and machine"
    return f"{', '.join(names[:-1])} and {names[-1]} differ" if len(names) > 1 else f"{names[0]} differs"


def read_recorded_trial(database: Database, study: str, number: int) -> RecordedTrial:
    """Read a trial that has ended with losses.

    Raises:
        UsageError: There is no such trial, or it has no loss to compare.
    """
    stored = read_stored_study(database, study)
    if stored is None:
        raise UsageError(f"--study {study}: not planned by lm-search, so its trials have no record; choose another")
    trials = trial_summaries(database, [study], attrs=(ENVIRONMENT,))
    trial = next((each for each in trials if each.number == number), None)
    if trial is None:
        raise UsageError(f"--trial {number}: {study} has the trials {ranges_text([each.number for each in trials])}")
    if trial.state not in ("complete", "pruned", "diverged"):
        why = f" ({trial.reason})" if trial.reason else ""
        raise UsageError(
            f"--trial {number}: the trial is {trial.state}{why} and has no loss to compare; choose one that has ended"
        )
    if trial.step is None and trial.val_loss is None and trial.value is None:
        raise UsageError(f"--trial {number}: the trial ended before its first loss; choose another")
    return RecordedTrial(stored, trial)


def replay_trial(
    recorded: RecordedTrial, corpus: Corpus | None, device: str | None, show: Callable[[str], None]
) -> Comparison:
    """Train a trial again up to the step that it reached.

    Args:
        recorded: The trial.
        corpus: The text that the study's objective trains on; None when it takes none.
        device: As torch names it; None is the kind of device that the trial ran on.
        show: Called with a line for each difference and for each evaluation.

    Returns:
        The losses then and now.

    Raises:
        UsageError, ModelError, ObjectiveError: The corpus differs, or the trial cannot run here.
    """
    definition, trial = recorded.study.definition, recorded.trial
    if difference := corpus_difference(recorded.study, corpus):
        raise UsageError(f"the corpus differs: {recorded.study.name} {difference}; give the right file with --corpus")
    corpus = corpus_as_planned(definition, corpus)
    objective = resolve_objective(definition.objective)
    device = device or recorded.facts.device or "cpu"
    check_device(device)
    prepare_process(objective, device)
    decisive, others = differences(recorded.facts.environment, environment(device, *user_sources(definition)))
    differs = (*decisive.values(), *others)
    for line in differs:
        show(line)
    again = _again(recorded, objective, corpus, device, show)
    is_users = not definition.is_ours
    # On a GPU the trial may have been part of a stacked group, whose kernels sum in another order.
    exact = not decisive and device == "cpu"
    tolerance = None if exact else RELATIVE_TOLERANCE if is_users else TOLERANCE
    loss = None if trial.state == "diverged" else trial.val_loss
    return Comparison(
        study=recorded.study.name,
        trial=trial.number,
        step=trial.step,
        recorded=loss,
        again=again,
        tolerance=tolerance,
        relative=is_users,
        different=tuple(decisive),
        differs=differs,
    )


def _again(
    recorded: RecordedTrial, objective: Objective, corpus: Corpus | None, device: str, show: Callable[[str], None]
) -> float | None:
    """The value of a new run of a trial; None if it is not finite, or ends before the step that the trial reached."""
    definition, trial = recorded.study.definition, recorded.trial
    training = read_settings(objective.settings_class, definition.objective_settings)
    metric, *others = [each.name for each in definition.metrics]
    last_step = trial.step if trial.state == "pruned" else None
    cell = objective_values(without_seed(trial.cell), definition.named)
    replayed = ReplayedTrial(cell, trial.number, training, definition.metrics, last_step)
    whose = f"--trial {trial.number}: the objective {definition.objective}"
    with _user_code(whose):
        run = objective.start(cell, trial.seed, training, corpus, device)
    try:
        with _user_code(whose):
            if isinstance(run, ObjectiveCall):
                value = replay_call(run, replayed)
                return value if math.isfinite(value) else None
            if isinstance(run, KnowsAttempt):
                run.attach(Attempt(metric, make_trial=lambda: replayed, study=recorded.study.name, others=others))
            assert trial.step is not None, "read_recorded_trial checks this"
            last = _train(run, trial.step, metric, show)
            return last.value if math.isfinite(last.value) and last.step == trial.step else None
    finally:
        if isinstance(run, Closes):
            run.close()
        replayed.close()


@contextmanager
def _user_code(whose: str) -> Iterator[None]:
    """Run code of the study as a worker does.

    Raises:
        UsageError: It failed.
    """
    try:
        with without_arguments():
            yield
    except USER_ERRORS:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{whose} failed: {error_text(error)}; replay it with the code that made the trial") from error


def differences(then: Mapping[str, Any] | None, now: Mapping[str, Any]) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Compare a trial's record with this process.

    Returns:
        A line for each difference that can change a loss, by name, and a line for each other difference.
    """
    if then is None:
        return {RECORD: "the trial has no record of versions and machine: an older version of lm-search trained it"}, ()
    then = dict(then)
    if then.get("code") != now.get("code") and then.get("lm-search") == FLAT_LAYOUT_VERSION:
        then["code"] = f"{then.get('code')} (lm-search {FLAT_LAYOUT_VERSION}; the sources have moved since)"
    decisive, others = (
        {name: f"{name} was {then.get(name)}, is {now.get(name)}" for name in names if then.get(name) != now.get(name)}
        for names in (DECISIVE, BOOKKEEPING)
    )
    return decisive, tuple(others.values())


def _train(run: TrainingRun, step: int, metric: str, show: Callable[[str], None]) -> Evaluation:
    while True:
        evaluation = run.advance(lambda: False)
        assert evaluation is not None, "a run without a stop request returns evaluations"
        show(f"step {evaluation.step} of {step}: {metric} {loss_text(evaluation.value)}")
        if evaluation.step >= step or run.finished:
            return evaluation
