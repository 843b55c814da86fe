"""What a study has cost: time on devices, floating-point operations, and what pruning has saved."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from search.storage.process_costs import RunCost
from search.storage.queries import TrialSummary
from search.study.cost_settings import CostSettings
from search.study.device_peaks import float32_peak
from search.study.stored import StoredStudy
from search.study.trial_facts import TrialFacts, trial_facts

MAX_ITERS = "max_iters"
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Spent:
    """What some trials have taken.

    Attributes:
        trials: Those that recorded what they took.
        seconds: Their time on devices; trials of a fused group share the time of the group.
        flops: Counted floating-point operations; None if some trial with a time has none.
    """

    trials: int
    seconds: float
    flops: float | None

    @property
    def flops_s(self) -> float | None:
        """Operations per second of a device."""
        return None if self.flops is None or self.seconds <= 0 else self.flops / self.seconds


@dataclass(frozen=True)
class Saved:
    """What pruned trials would have taken besides if they had gone on to the end as fast as they began.

    Attributes:
        trials: Those that were pruned.
        share: The share of all that would have been taken.
    """

    trials: int
    seconds: float
    flops: float | None
    share: float


@dataclass(frozen=True)
class StudyCost:
    """What a study has cost.

    Attributes:
        spent: By all trials.
        by_state: By the trials of each state that have taken anything.
        by_axis: For each axis that is a list with several values, what the trials of each value took.
        saved: By pruning; None if no trial was pruned, or it is not known what it would have taken.
        peak_flops: Operations per second that a device can do at most; None if it is not known, or devices differ.
        peak_source: Where that is from.
        settings: The price of a device.
        run: By whole processes, start-up included; None if they have not recorded it.
    """

    spent: Spent
    by_state: Mapping[str, Spent]
    by_axis: Mapping[str, Sequence[tuple[Any, Spent]]]
    saved: Saved | None
    peak_flops: float | None
    peak_source: str
    settings: CostSettings
    run: RunCost | None = None

    @property
    def device_s(self) -> float:
        """Seconds of devices: of whole workers, or else of trials."""
        return self.spent.seconds if self.run is None else self.run.device_s

    @property
    def peak_share(self) -> float | None:
        """The share of the peak that trials have reached on average; None if it is not known."""
        achieved = self.spent.flops_s
        return None if achieved is None or self.peak_flops is None else achieved / self.peak_flops

    def price(self, seconds: float) -> float | None:
        """What devices cost for a time; None without a price."""
        rate = self.settings.per_device_hour
        return None if rate is None else rate * seconds / 3600


def study_cost(
    stored: StoredStudy, trials: Sequence[TrialSummary], records: Iterable[Any], run: RunCost | None = None
) -> StudyCost:
    """What a study has cost.

    Args:
        trials: With the attributes `SPENT_FACTS`.
        records: The different records of versions and machines of its trials.
        run: What its processes have taken.
    """
    facts = [trial_facts(trial.attrs) for trial in trials]
    peak, source = _peak(stored.settings.cost, records)
    varied = [axis for axis, values in stored.definition.grid.items() if len(values) > 1]
    return StudyCost(
        spent_by(facts),
        dict(_by([trial.state for trial in trials], facts)),
        {axis: found for axis in varied if (found := _by_value(axis, trials, facts))},
        _saved(stored, trials, facts),
        peak,
        source,
        stored.settings.cost,
        run,
    )


def spent_by(facts: Iterable[TrialFacts]) -> Spent:
    """What trials with these facts have taken."""
    timed = [each for each in facts if each.train_seconds is not None]
    counted = [each.flops for each in timed if each.flops is not None]
    flops = sum(counted) if counted and len(counted) == len(timed) else None
    return Spent(len(timed), sum(each.train_seconds or 0.0 for each in timed), flops)


def _by_value(axis: str, trials: Sequence[TrialSummary], facts: Sequence[TrialFacts]) -> list[tuple[Any, Spent]]:
    having = [(trial, each) for trial, each in zip(trials, facts, strict=True) if axis in trial.cell]
    # True is 1 as a key.
    keys = [(isinstance(trial.cell[axis], bool), trial.cell[axis]) for trial, _ in having]
    found = [(value, spent) for (_, value), spent in _by(keys, [each for _, each in having])]
    is_number = all(isinstance(value, (int, float)) for value, _ in found)
    return sorted(found, key=lambda each: float(each[0])) if is_number else found


def _by(keys: Iterable[Key], facts: Iterable[TrialFacts]) -> list[tuple[Key, Spent]]:
    """What the trials of each key have taken, without those that have taken nothing."""
    grouped: dict[Key, list[TrialFacts]] = {}
    for key, each in zip(keys, facts, strict=True):
        grouped.setdefault(key, []).append(each)
    return [(key, spent) for key, group in grouped.items() if (spent := spent_by(group)).trials]


def _saved(stored: StoredStudy, trials: Sequence[TrialSummary], facts: Sequence[TrialFacts]) -> Saved | None:
    longest = max((trial.step or 0 for trial in trials if trial.state == "complete"), default=0)
    seconds, flops, count = 0.0, 0.0, 0
    for trial, each in zip(trials, facts, strict=True):
        if trial.state != "pruned":
            continue
        end = _planned_steps(stored, trial) or longest
        if each.train_seconds is None or not trial.step or not end:
            return None
        left = max(0.0, end / trial.step - 1)
        seconds += each.train_seconds * left
        flops += (each.flops or 0.0) * left
        count += 1
    if not seconds:
        return None
    spent = spent_by(facts)
    return Saved(count, seconds, None if spent.flops is None else flops, seconds / (seconds + spent.seconds))


def _planned_steps(stored: StoredStudy, trial: TrialSummary) -> int | None:
    """How many steps a trial of ours was to take."""
    if not stored.definition.is_ours:
        return None
    planned = trial.cell.get(MAX_ITERS, stored.definition.training.max_iters)
    return planned if isinstance(planned, int) else None


def _peak(settings: CostSettings, records: Iterable[Any]) -> tuple[float | None, str]:
    if settings.peak_flops is not None:
        return settings.peak_flops, "peak_flops of the study file"
    devices = {each.get("gpu") for each in records if isinstance(each, Mapping)}
    [gpu] = devices if len(devices) == 1 else [None]
    peak = float32_peak(gpu) if isinstance(gpu, str) else None
    return peak, "" if peak is None else f"float32, without tensor cores, of an {gpu}"
