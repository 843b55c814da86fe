"""Runs a trial again from what the database has of it, and compares the losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from search.errors import UsageError
from search.objectives.corpus import Corpus
from search.objectives.protocol import Evaluation, TrainingRun
from search.objectives.settings import read_settings
from search.storage.database import Database
from search.storage.queries import TrialSummary, trial_summaries
from search.study.cells import without_seed
from search.study.corpus import corpus_difference
from search.study.formatting import loss_text
from search.study.stored import ENVIRONMENT, StoredStudy, TrialFacts, read_stored_study, trial_facts
from search.study.user_modules import resolve_objective, user_modules
from search.workers.devices import check_device
from search.workers.provenance import environment
from search.workers.setup import prepare_process

# Other processors and versions round differently, and thousands of steps carry it on. An independent implementation
# with other random numbers came within 0.02 of our losses in every cell that is not chaotic, as
# docs/results/reference.md shows; so a run of the same random numbers that is further off is so for another reason.
TOLERANCE = 0.02
CHAOS = (
    "some cells are chaotic: their own seeds end up to 0.15 apart (docs/results/reference.md), and there the rounding "
    "of another machine can decide as another seed would; run it where it was trained to be sure"
)
# What decides about the digits. Optuna and lm-search itself only keep the books: a change of theirs is told, no more.
DECISIVE = ("torch", "numpy", "code", "python", "system", "machine", "processor", "device", "threads", "gpu")
BOOKKEEPING = ("optuna", "lm-search")
# Its sources lay in four packages, so that their digest changed with the move into one, whatever they compute.
FLAT_LAYOUT_VERSION = "0.1.0"


@dataclass(frozen=True)
class RecordedTrial:
    """A trial as the database has it.

    Attributes:
        study: Its study.
        run: The trial.
    """

    study: StoredStudy
    run: TrialSummary

    @property
    def facts(self) -> TrialFacts:
        """What its worker recorded; without `record` for a trial of a version that did not keep that."""
        return trial_facts(self.run.attrs)


@dataclass(frozen=True)
class Verdict:
    """What became of a replay.

    Attributes:
        recorded: The last validation loss of the trial, None when it was not finite.
        again: The same of the replay, at the same step.
        tolerance: How far they may lie apart; None is not at all.
        differs: What differs between then and now, one line each.
    """

    study: str
    trial: int
    step: int
    recorded: float | None
    again: float | None
    tolerance: float | None
    differs: tuple[str, ...]

    @property
    def met(self) -> bool:
        """Whether the losses agree."""
        if self.recorded is None or self.again is None:
            return self.recorded is self.again
        return abs(self.again - self.recorded) <= (self.tolerance or 0.0)

    def as_dict(self) -> dict[str, Any]:
        """The verdict for JSON."""
        return {**asdict(self), "met": self.met, "exact": self.recorded == self.again}


def read_recorded_trial(database: Database, study: str, number: int) -> RecordedTrial:
    """A trial that has ended with losses.

    Raises:
        UsageError: There is no such trial, or it has no loss that could be met.
    """
    stored = read_stored_study(database, study)
    if stored is None:
        raise UsageError(f"--study {study}: it was not planned by lm-search, so there is no record of its trials")
    runs = trial_summaries(database, [study], attrs=(ENVIRONMENT,))
    run = next((run for run in runs if run.number == number), None)
    if run is None:
        raise UsageError(f"--trial {number}: {study} has the trials {_ranges([run.number for run in runs])}")
    if run.state not in ("complete", "pruned", "diverged"):
        why = f" ({run.reason})" if run.reason else ""
        raise UsageError(
            f"--trial {number}: it is {run.state}{why}, and has no loss to be met; choose one that has ended"
        )
    if run.step is None:
        raise UsageError(f"--trial {number}: it reported no loss before it was ended; choose another")
    return RecordedTrial(stored, run)


def _ranges(numbers: list[int]) -> str:
    """Whole numbers in order as text, such as "0 to 3, 7"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join(" to ".join(map(str, part)) for part in parts) or "none"


def rerun(past: RecordedTrial, text: Corpus | None, device: str | None, say: Callable[[str], None]) -> Verdict:
    """Train again up to the step that the trial reached.

    Args:
        text: What the study's objective trains on; None where it takes none.
        device: As torch names it; None is the kind of device that it ran on.
        say: Is told what differs, and how far it is.

    Raises:
        UsageError, ModelError, ObjectiveError: The corpus is another one, or the trial cannot be run here.
    """
    definition = past.study.definition
    if difference := corpus_difference(past.study, text):
        raise UsageError(f"the corpus differs: {past.study.name} {difference}; give the right file with --corpus")
    objective = resolve_objective(definition.objective)
    place = device or past.facts.device or "cpu"
    check_device(place)
    prepare_process(objective)
    decisive, others = differences(past.facts.environment, environment(place, user_modules(definition)))
    for line in (*decisive, *others):
        say(line)
    training = read_settings(objective.settings_class, definition.training.model_dump())
    step = past.run.step
    assert step is not None, "read_recorded_trial looked"
    last = _train(objective.start(without_seed(past.run.cell), past.run.seed, training, text, place), step, say)
    # On a GPU the same trial may have been one of a stack, whose kernels add up in another order.
    exact = not decisive and not place.startswith("cuda")
    recorded = None if past.run.state == "diverged" else past.run.val_loss
    again = last.val_loss if math.isfinite(last.val_loss) and last.step == step else None
    differs = (*decisive, *others)
    return Verdict(past.study.name, past.run.number, step, recorded, again, None if exact else TOLERANCE, differs)


def differences(then: Mapping[str, Any] | None, now: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What differs between a trial's record and here: what decides about the digits, and the rest; a line each."""
    if then is None:
        return ("the trial has no record of versions and machine: an older version of lm-search trained it",), ()
    then = dict(then)
    if then.get("code") != now.get("code") and then.get("lm-search") == FLAT_LAYOUT_VERSION:
        then["code"] = f"{then.get('code')} (lm-search {FLAT_LAYOUT_VERSION}; the sources have moved since)"
    decisive, others = (
        tuple(f"{name} was {then.get(name)}, is {now.get(name)}" for name in names if then.get(name) != now.get(name))
        for names in (DECISIVE, BOOKKEEPING)
    )
    return decisive, others


def _train(run: TrainingRun, step: int, say: Callable[[str], None]) -> Evaluation:
    while True:
        evaluation = run.advance(lambda: False)
        assert evaluation is not None, "nothing stopped it"
        say(f"step {evaluation.step} of {step}: val_loss {loss_text(evaluation.val_loss)}")
        if evaluation.step >= step or run.finished:
            return evaluation
