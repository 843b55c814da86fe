"""What differs between two trials, from what the database has of them: nothing is trained again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from search.errors import UsageError
from search.storage.database import Database
from search.storage.metrics import further_results, reported
from search.storage.queries import TrialSummary, trial_summaries
from search.storage.trial_histories import trial_histories
from search.study.differences import Difference, fact_differences, provenance_facts, study_facts
from search.study.formatting import ranges_text
from search.study.stored import StoredStudy, read_stored_study
from search.study.trial_facts import ENVIRONMENT, trial_facts

# What two studies can differ in that says nothing about one of their trials.
_NOT_OF_A_TRIAL = ("search space", "plan", "claims", "published", "auto_seeds", "workers")


@dataclass(frozen=True)
class DiffedTrial:
    """One of the two trials.

    Attributes:
        study: Its study.
        summary: Its row.
        curve: Step to value, steps ascending; NaN or infinite where it diverged.
        metrics: The last value of each metric besides the study's.
    """

    study: StoredStudy
    summary: TrialSummary
    curve: Mapping[int, float]
    metrics: Mapping[str, float]

    @property
    def title(self) -> str:
        """The trial in a sentence."""
        return f"trial {self.summary.number} of {self.summary.study}"

    @property
    def environment(self) -> Mapping[str, Any] | None:
        """What it ran on; None if that was not recorded."""
        return trial_facts(self.summary.attrs).environment

    def facts(self) -> dict[str, Mapping[str, Any]]:
        """All that is known of it, by group."""
        summary, planned = self.summary, study_facts(self.study)
        result = {
            "state": summary.state,
            "step": summary.step,
            self.study.definition.metric.name: _finite(summary.val_loss),
            "train_loss": _finite(summary.train_loss),
            **{name: _finite(value) for name, value in self.metrics.items()},
            "reason": summary.reason,
            "attempts": summary.attempts,
            "seconds": None if summary.seconds is None else round(summary.seconds, 3),
        }
        return {
            "parameters": summary.shown_cell,
            **{name: group for name, group in planned.items() if name not in _NOT_OF_A_TRIAL},
            **provenance_facts(self.environment or {}),
            "result": result,
        }


@dataclass(frozen=True)
class CurveParting:
    """Where two curves part.

    Attributes:
        common: The number of steps that both have.
        equal_until: The last common step before they part; None if they part at the first one, or have none.
        parts_at: The first common step at which they differ; None if they never do.
        values: Their values there, None for one that is not finite.
        last: The last step of each; None without any.
    """

    common: int
    equal_until: int | None
    parts_at: int | None
    values: tuple[float | None, float | None] | None
    last: tuple[int | None, int | None]


@dataclass(frozen=True)
class TrialDifferences:
    """What differs between two trials.

    Attributes:
        first, second: The trials.
        differences: Group by group; without those of records if one trial has none.
        curves: Where their curves part.
    """

    first: DiffedTrial
    second: DiffedTrial
    differences: tuple[Difference, ...]
    curves: CurveParting

    @property
    def without_environment(self) -> list[DiffedTrial]:
        """The trials of which is not recorded what they ran on."""
        return [each for each in (self.first, self.second) if each.environment is None]

    @property
    def same(self) -> list[str]:
        """The groups in which nothing differs, of those that both trials have."""
        facts = [each.facts() for each in (self.first, self.second)]
        unknown = ("code", "versions", "machine") if self.without_environment else ()
        different = {each.group for each in self.differences}
        return [
            name for name in facts[0] if facts[0][name] and facts[1].get(name) and name not in (*different, *unknown)
        ]

    def as_dict(self) -> dict[str, Any]:
        """The differences for JSON."""
        trials = [
            {
                "study": each.summary.study,
                "number": each.summary.number,
                "state": each.summary.state,
                "cell": dict(each.summary.shown_cell),
                "record": each.environment,
            }
            for each in (self.first, self.second)
        ]
        differences = [asdict(each) for each in self.differences]
        return {"trials": trials, "differences": differences, "same": self.same, "curves": asdict(self.curves)}


def parse_trial(text: str, study: str) -> tuple[str, int]:
    """The study and the number of a trial: NUMBER, or STUDY:NUMBER.

    Args:
        study: The study of a number alone.

    Raises:
        UsageError: The text is neither.
    """
    named, _, number = text.rpartition(":")
    if not (number.isascii() and number.isdigit() and len(number) < 19) or text.startswith(":"):
        raise UsageError(f"--diff {text}: write the number of a trial, such as 7, or STUDY:NUMBER, such as {study}:7")
    return named or study, int(number)


def read_trial(database: Database, study: str, number: int) -> DiffedTrial:
    """Read all that the database has of a trial.

    Raises:
        UsageError: There is no such trial.
    """
    stored = read_stored_study(database, study)
    assert stored is not None, "open_studies checked that it exists"
    trials = trial_summaries(database, [study], attrs=(ENVIRONMENT,))
    trial = next((each for each in trials if each.number == number), None)
    if trial is None:
        raise UsageError(f"--diff {number}: {study} has the trials {ranges_text([each.number for each in trials])}")
    [history] = trial_histories(database, [study], with_metrics=True, chosen=[(study, number)])
    metrics: dict[str, float] = {}
    for values in history.metrics.values():
        metrics |= reported(values)
    objectives = [each.name for each in stored.definition.metrics[1:]]
    result = further_results(database, [study], with_metrics=False).get((study, number))
    metrics |= dict(zip(objectives, () if result is None else result.values, strict=False))
    return DiffedTrial(stored, trial, history.curve, metrics)


def compare_trials(first: DiffedTrial, second: DiffedTrial) -> TrialDifferences:
    """What differs between two trials."""
    groups = [each.facts() for each in (first, second)]
    if first.environment is None or second.environment is None:
        groups = [{name: each for name, each in one.items() if name not in provenance_facts({})} for one in groups]
    return TrialDifferences(first, second, tuple(fact_differences(*groups)), curve_parting(first.curve, second.curve))


def curve_parting(first: Mapping[int, float], second: Mapping[int, float]) -> CurveParting:
    """Where two curves part; both NaN, or the same infinity, counts as equal."""
    common = sorted(first.keys() & second.keys())
    last = max(first, default=None), max(second, default=None)
    equal: int | None = None
    for step in common:
        one, other = first[step], second[step]
        if one != other and not (math.isnan(one) and math.isnan(other)):
            return CurveParting(len(common), equal, step, (_finite(one), _finite(other)), last)
        equal = step
    return CurveParting(len(common), equal, None, None, last)


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
