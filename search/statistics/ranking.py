"""The ranked table: one row per cell, the mean over its seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search.statistics.inference import t_quantile
from search.storage.database import Database
from search.storage.queries import TrialSummary, trial_summaries
from search.storage.slots import canonical
from search.study.cells import without_seed
from search.study.claims import Published
from search.study.stored import TABLE_FACTS, read_stored_study, trial_facts

# Cells are ranked by what they are worth knowing for: final losses first, then losses at pruning, then none.
STATE_ORDER = ("complete", "pruned", "running", "waiting", "diverged", "failed")


@dataclass(frozen=True)
class Row:
    """A cell's line in the table.

    Attributes:
        rank: From 1, among complete cells only.
        cell: Its parameters without the seed.
        state: "complete" when every trial of it is; else the state of the trial that is furthest from it.
        trials: How many trials of it have a loss, of how many planned.
        train_loss: Mean over the trials that count, those that went furthest; nats per character.
        val_loss: The same; what cells are ranked by. Of a pruned cell it is the loss at pruning.
        step: Training steps behind the losses, of the trial that took fewest.
        published: The published validation loss, if there is one.
        tokens: Characters that a trial was trained on; mean over the trials that count.
        interval: Half of the 95 % interval of the mean val_loss over the seeds, by Student's t; None with one seed, and
            where losses are not final.
        seed_range: The lowest and the highest val_loss of a seed; None where losses are not final.
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
        """Whether the published loss lies within the range of our seeds; None unless complete, or with one seed."""
        if self.state != "complete" or self.published is None or self.seed_range is None or self.trials[0] < 2:
            return None
        low, high = self.seed_range
        return low <= self.published <= high

    @property
    def difference(self) -> float | None:
        """Our validation loss minus the published one; None unless complete, since a pruned loss is no final one."""
        if self.state != "complete" or self.val_loss is None or self.published is None:
            return None
        return self.val_loss - self.published

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON."""
        facts = {**asdict(self), "trials": self.trials[0], "planned": self.trials[1], "difference": self.difference}
        return {**facts, "published_inside": self.published_inside}


def half_interval(values: Sequence[float]) -> float | None:
    """Half of the 95 % interval of the mean of `values`, by Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    return t_quantile(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


def ranked_rows(database: Database, studies: Sequence[str], published: Sequence[Published] | None = None) -> list[Row]:
    """The table of one or more studies, best cell first.

    Args:
        published: Losses to compare with; None reads those of the first study, which its siblings share.
    """
    if published is None:
        stored = read_stored_study(database, studies[0]) if studies else None
        published = () if stored is None else stored.published
    losses = {canonical(each.cell): each.val_loss for each in published}
    cells: dict[str, list[TrialSummary]] = {}
    for run in trial_summaries(database, studies, attrs=TABLE_FACTS):
        cell = without_seed(run.cell)
        # A slot that waits for its cell has none to be ranked.
        if cell or run.state not in ("waiting", "running"):
            cells.setdefault(canonical(cell), []).append(run)
    rows = [_row(runs, losses.get(cell)) for cell, runs in cells.items()]
    rows.sort(key=_order)
    ranks = iter(range(1, len(rows) + 1))
    return [Row(**{**vars(row), "rank": next(ranks) if row.state == "complete" else None}) for row in rows]


def _row(runs: Sequence[TrialSummary], published: float | None) -> Row:
    state = max((run.state for run in runs), key=STATE_ORDER.index)
    # Losses at different steps have no common mean: complete trials if there are any, else those that went furthest.
    complete = [run for run in runs if run.state == "complete"]
    known = [run for run in runs if run.val_loss is not None and run.state != "diverged"]
    furthest = max((run.step or 0 for run in known), default=0)
    measured = complete or [run for run in known if (run.step or 0) == furthest]
    losses = [run.val_loss for run in complete if run.val_loss is not None]
    facts = [trial_facts(run.attrs) for run in runs]
    tokens = _mean([trial_facts(run.attrs).tokens for run in measured])
    return Row(
        rank=None,
        cell=without_seed(runs[0].cell),
        state=state,
        trials=(len(measured), len(runs)),
        train_loss=_mean([run.train_loss for run in measured]),
        val_loss=_mean([run.val_loss for run in measured]),
        step=min((run.step for run in measured if run.step is not None), default=None),
        n_params=next((each.n_params for each in facts if each.n_params is not None), None),
        seconds=_mean([each.train_seconds for each in facts]),
        published=published,
        tokens=None if tokens is None else round(tokens),
        interval=half_interval(losses),
        seed_range=(min(losses), max(losses)) if losses else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _order(row: Row) -> tuple[int, float]:
    return STATE_ORDER.index(row.state), row.val_loss if row.val_loss is not None else float("inf")
