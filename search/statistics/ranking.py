"""The ranked table: one row per cell, with the means over its seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search.statistics.inference import mean, unit
from search.statistics.student import t_quantile
from search.storage.database import Database
from search.storage.queries import TrialSummary, trial_summaries
from search.storage.values import canonical
from search.study.cells import without_seed
from search.study.claims import Published
from search.study.stored import read_stored_study
from search.study.trial_facts import TABLE_FACTS, trial_facts

# The most informative states first: final losses, then losses at pruning, then no losses.
STATE_ORDER = ("complete", "pruned", "running", "waiting", "diverged", "failed")


@dataclass(frozen=True)
class Row:
    """A cell's line in the table.

    Attributes:
        rank: From 1; None unless the cell is complete.
        cell: Its parameters without the seed.
        state: The state of its trial that is last in `STATE_ORDER`; "complete" only if all its trials are complete.
        trials: The number of trials behind the losses, and of planned trials.
        train_loss: Mean over its complete trials, or if there are none over those that reached the latest step; nats
            per character.
        val_loss: The mean over the same trials; cells are ranked by it. For a pruned cell it is the loss at pruning.
        step: Training steps behind the losses; the fewest of these trials.
        published: The published validation loss, if there is one.
        tokens: Characters that a trial was trained on; the mean over the same trials.
        interval: Half of the 95 % interval of the mean val_loss over the seeds, by Student's t; None with fewer than
            two complete trials.
        seed_range: The lowest and the highest val_loss of a seed; None without a complete trial.
    """

    rank: int | None
    cell: Mapping[str, Any]
    state: str
    trials: tuple[int, int]
    train_loss: float | None
    val_loss: float | None
    step: int | None
    n_params: int | None
    seconds: float | None
    published: float | None
    tokens: int | None = None
    interval: float | None = None
    seed_range: tuple[float, float] | None = None

    @property
    def published_inside(self) -> bool | None:
        """Whether the published loss is in the range of our seeds; None unless complete with two or more seeds."""
        if self.state != "complete" or self.published is None or self.seed_range is None or self.trials[0] < 2:
            return None
        low, high = self.seed_range
        return low <= self.published <= high

    @property
    def difference(self) -> float | None:
        """Our validation loss minus the published one; None unless complete, since a pruned loss is not final."""
        if self.state != "complete" or self.val_loss is None or self.published is None:
            return None
        return self.val_loss - self.published

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON."""
        facts = {**asdict(self), "trials": self.trials[0], "planned": self.trials[1], "difference": self.difference}
        return {**facts, "published_inside": self.published_inside}


def best_loss(rows: Sequence[Row]) -> float | None:
    """The lowest loss of a complete trial, of whatever cell; None without one."""
    return min((row.seed_range[0] for row in rows if row.seed_range is not None), default=None)


def is_reached(target: float | None, rows: Sequence[Row]) -> bool | None:
    """Whether a complete trial has at most the loss `target`; None without a target."""
    best = best_loss(rows)
    return None if target is None else best is not None and best <= target


def half_interval(values: Sequence[float]) -> float | None:
    """Half of the 95 % interval of the mean of `values`, by Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    scale = unit(values)
    spread = statistics.stdev([value / scale for value in values])
    return t_quantile(0.975, len(values) - 1) * spread / math.sqrt(len(values)) * scale


def ranked_rows(database: Database, studies: Sequence[str], published: Sequence[Published] | None = None) -> list[Row]:
    """The table of one or more studies, best cell first.

    Args:
        published: Losses to compare with; None reads those of the first study, which its sibling shares.
    """
    if published is None:
        stored = read_stored_study(database, studies[0]) if studies else None
        published = () if stored is None else stored.published
    losses = {canonical(each.cell): each.val_loss for each in published}
    cells: dict[str, list[TrialSummary]] = {}
    for trial in trial_summaries(database, studies, attrs=TABLE_FACTS):
        cell = without_seed(trial.cell)
        # A slot without a cell yet cannot be ranked.
        if cell or trial.state not in ("waiting", "running"):
            cells.setdefault(canonical(cell), []).append(trial)
    rows = [_row(trials, losses.get(cell)) for cell, trials in cells.items()]
    rows.sort(key=_order)
    ranks = iter(range(1, len(rows) + 1))
    return [Row(**{**vars(row), "rank": next(ranks) if row.state == "complete" else None}) for row in rows]


def _row(trials: Sequence[TrialSummary], published: float | None) -> Row:
    state = max((trial.state for trial in trials), key=STATE_ORDER.index)
    # A mean needs losses at one step: those of the complete trials, or if there are none of the latest step.
    complete = [trial for trial in trials if trial.state == "complete"]
    with_loss = [trial for trial in trials if trial.val_loss is not None and trial.state != "diverged"]
    latest = max((trial.step for trial in with_loss if trial.step is not None), default=None)
    measured = complete or [trial for trial in with_loss if trial.step == latest]
    losses = [trial.val_loss for trial in complete if trial.val_loss is not None]
    facts = [trial_facts(trial.attrs) for trial in trials]
    tokens = _mean([trial_facts(trial.attrs).tokens for trial in measured])
    return Row(
        rank=None,
        cell=without_seed(trials[0].cell),
        state=state,
        trials=(len(measured), len(trials)),
        train_loss=_mean([trial.train_loss for trial in measured]),
        val_loss=_mean([trial.val_loss for trial in measured]),
        step=min((trial.step for trial in measured if trial.step is not None), default=None),
        n_params=next((each.n_params for each in facts if each.n_params is not None), None),
        seconds=_mean([each.train_seconds for each in facts]),
        published=published,
        tokens=None if tokens is None else round(tokens),
        interval=half_interval(losses),
        seed_range=(min(losses), max(losses)) if losses else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return mean(present) if present else None


def _order(row: Row) -> tuple[int, float]:
    return STATE_ORDER.index(row.state), row.val_loss if row.val_loss is not None else float("inf")
