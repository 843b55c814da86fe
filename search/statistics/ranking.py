"""The ranked table: one row per cell, with the means over its seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from search.statistics.further_means import mean_results
from search.statistics.inference import mean
from search.statistics.losses import Losses
from search.statistics.pareto import pareto_front
from search.storage.database import Database
from search.storage.metrics import FurtherResults, further_results
from search.storage.queries import UNFINISHED, TrialSummary, trial_summaries
from search.storage.schema import NOT_RUN
from search.storage.values import canonical
from search.study.cells import without_seed
from search.study.claims import Published
from search.study.metrics import DEFAULT_METRICS, DEFAULT_NAME, Metric
from search.study.stored import StoredStudy, read_stored_study
from search.study.text_unit import TextUnit
from search.study.trial_facts import TABLE_FACTS, trial_facts

_NO_RESULTS = FurtherResults()
# The most informative states first: final losses, then losses at pruning, then no losses.
STATE_ORDER = ("complete", "pruned", "running", "waiting", NOT_RUN, "diverged", "failed")


@dataclass(frozen=True, slots=True)
class Row:
    """A cell's line in the table.

    Attributes:
        rank: From 1; None unless the cell is complete and feasible.
        cell: Its parameters without the seed.
        state: The state of its trial that is last in `STATE_ORDER`; "complete" only if all its trials are complete. If
            its objective suggests the parameters, the first in `STATE_ORDER`.
        trials: The number of trials behind the losses, and of planned trials.
        train_loss: Mean over its complete trials, or if there are none over those that reached the latest step; nats
            per id.
        val_loss: The mean value over the same trials, whatever the metric; cells are ranked by it. For a pruned cell it
            is the value at pruning.
        step: Training steps behind the losses; the fewest of these trials.
        published: The published validation loss, if there is one.
        tokens, flops: Characters and counted operations of a trial; the means over the same trials.
        interval: Half of the 95 % interval of the mean val_loss over the seeds, by the noise model of the study; None
            with fewer than two complete trials, and if a trial was pruned, diverged or failed.
        prediction: Half of the interval that holds the val_loss of one more seed with 95 %; None like `interval`.
        seed_values: The val_loss of each complete trial, by seed.
        metrics: What the study ranks by; the first is that of `val_loss`.
        further: The means of further objectives and of other metrics over the same trials, by name.
        is_feasible: Whether all its complete trials keep their constraints.
        on_front: Whether it is on the Pareto front of the ranked cells: none is better in one metric and as good in
            the others. None with one objective, and unless it has a rank.
        loss_unit: What `val_loss` is per; None unless it is the loss of a language model.
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
    prediction: float | None = None
    seed_values: Mapping[int, float] = field(default_factory=dict)
    metrics: Sequence[Metric] = DEFAULT_METRICS
    further: Mapping[str, float] = field(default_factory=dict)
    is_feasible: bool = True
    on_front: bool | None = None
    loss_unit: TextUnit | None = None
    flops: float | None = None

    @property
    def bits(self) -> float | None:
        """`val_loss` in bits, of which `loss_unit` says per what; None unless it is the loss of a language model."""
        return None if self.loss_unit is None or self.val_loss is None else self.loss_unit.as_bits(self.val_loss)

    @property
    def perplexity(self) -> float | None:
        """`val_loss` as perplexity; None unless it is the loss of a language model."""
        return None if self.loss_unit is None or self.val_loss is None else self.loss_unit.as_perplexity(self.val_loss)

    @property
    def metric(self) -> Metric:
        """What `val_loss` is."""
        return self.metrics[0]

    @property
    def values(self) -> tuple[float | None, ...]:
        """The mean of each objective."""
        return (self.val_loss, *(self.further.get(each.name) for each in self.metrics[1:]))

    @property
    def seed_range(self) -> tuple[float, float] | None:
        """The lowest and the highest val_loss of a seed; None without a complete trial."""
        return (min(self.seed_values.values()), max(self.seed_values.values())) if self.seed_values else None

    @property
    def published_agrees(self) -> bool | None:
        """Whether the published loss is one that another seed could have; None without a prediction."""
        if self.difference is None or self.prediction is None:
            return None
        return abs(self.difference) <= self.prediction

    @property
    def difference(self) -> float | None:
        """Our validation loss minus the published one; None unless complete, since a pruned loss is not final."""
        if self.state != "complete" or self.val_loss is None or self.published is None:
            return None
        return self.val_loss - self.published

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON."""
        left_out = ("metrics", "further", "is_feasible", "on_front", "seed_values", "loss_unit")
        facts: dict[str, Any] = {
            each.name: getattr(self, each.name) for each in fields(self) if each.name not in left_out
        }
        facts |= {"trials": self.trials[0], "planned": self.trials[1], "difference": self.difference}
        facts |= {"seed_range": self.seed_range, "published_agrees": self.published_agrees}
        facts |= {"seeds": {str(seed): value for seed, value in self.seed_values.items()}}
        if self.loss_unit is not None:
            facts |= self.loss_unit.values(self.val_loss)
        if self.on_front is not None:
            facts["on_front"] = self.on_front
        if not self.is_feasible:
            facts["feasible"] = False
        if self.further:
            facts["metrics"] = dict(self.further)
        if self.metric.name == DEFAULT_NAME:
            return facts
        return {"value" if name == "val_loss" else name: value for name, value in facts.items()}


def metrics_of(rows: Sequence[Row]) -> Sequence[Metric]:
    """What the rows are ranked by; the default without rows."""
    return rows[0].metrics if rows else DEFAULT_METRICS


def best_value(rows: Sequence[Row]) -> float | None:
    """The best value of a complete trial, of whatever feasible cell; None without one."""
    ends = [end for row in rows if row.seed_range is not None and row.is_feasible for end in row.seed_range]
    return metrics_of(rows)[0].best(ends)


def is_reached(target: float | None, rows: Sequence[Row]) -> bool | None:
    """Whether a complete trial is at least as good as `target`; None without a target."""
    best = best_value(rows)
    return None if target is None else best is not None and metrics_of(rows)[0].is_met(target, best)


def ranked_rows(database: Database, studies: Sequence[str], published: Sequence[Published] | None = None) -> list[Row]:
    """The table of one or more studies, best cell first.

    Args:
        published: Losses to compare with; None reads those of the first study, which its sibling shares.
    """
    stored = read_stored_study(database, studies[0]) if studies else None
    if published is None:
        published = () if stored is None else stored.published
    return rank_trials(database, studies, trial_summaries(database, studies, attrs=TABLE_FACTS), stored, published)


def rank_trials(
    database: Database,
    studies: Sequence[str],
    trials: Iterable[TrialSummary],
    stored: StoredStudy | None,
    published: Sequence[Published],
) -> list[Row]:
    """The table of trials that were read, best cell first.

    Args:
        studies: Whose trials they are.
        trials: With the attributes `TABLE_FACTS`.
        stored: The first study.
        published: Losses to compare with.
    """
    metrics = DEFAULT_METRICS if stored is None else stored.definition.metrics
    # Our own objective reports training losses alone besides its value.
    further = further_results(database, studies, stored is None or not stored.definition.is_ours)
    losses = {canonical(each.cell): each.val_loss for each in published}
    cells: dict[str, list[TrialSummary]] = {}
    for trial in trials:
        cell = without_seed(trial.cell)
        # A slot without a cell yet cannot be ranked.
        if cell or trial.state not in UNFINISHED:
            cells.setdefault(canonical(cell), []).append(trial)
    # Where parameters are drawn, equal ones are chance: a pruned trial says nothing about the others.
    is_drawn = stored is not None and stored.is_drawn
    unit = None if stored is None else stored.loss_unit
    rows = [_row(trials, losses.get(cell), metrics, further, is_drawn, unit) for cell, trials in cells.items()]
    return ranked(_with_intervals(rows, metrics[0]))


def _with_intervals(rows: Sequence[Row], metric: Metric) -> list[Row]:
    """The rows with what their seeds say about the noise."""
    if not any(len(row.seed_values) > 1 for row in rows):
        return list(rows)
    losses = Losses.of(
        [(row.cell, seed, value) for row in rows for seed, value in row.seed_values.items()],
        metric,
        [(row.cell, row.state) for row in rows if row.state != "complete"],
    )
    if losses.posterior is None:
        return list(rows)
    noise = losses.posterior.noise
    mean_reach, seed_reach = noise.mean_reach, noise.seed_reach
    halves = {
        canonical(cell): (losses.in_values(mean_reach[index]), losses.in_values(seed_reach[index]))
        for index, cell in enumerate(losses.cells)
        if noise.count[index] > 1
    }
    found = []
    for row in rows:
        interval, prediction = halves.get(canonical(row.cell), (None, None))
        found.append(replace(row, interval=interval, prediction=prediction))
    return found


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Rows in order and with ranks: complete ones first, of these feasible ones, then the Pareto front, then the best.

    Args:
        rows: Of one study, in any order.
    """
    is_ranked = [row.state == "complete" and row.is_feasible for row in rows]
    if len(metrics_of(rows)) > 1:
        losses = [[*map(_loss, row.metrics, row.values)] for row, counts in zip(rows, is_ranked, strict=True) if counts]
        on_front = iter(pareto_front(losses))
        rows = [replace(row, on_front=next(on_front)) if yes else row for row, yes in zip(rows, is_ranked, strict=True)]
    rows = sorted(rows, key=_order)
    ranks = itertools.count(1)
    return [replace(row, rank=next(ranks) if row.state == "complete" and row.is_feasible else None) for row in rows]


def _row(
    trials: Sequence[TrialSummary],
    published: float | None,
    metrics: Sequence[Metric],
    further: Mapping[tuple[str, int], FurtherResults],
    is_drawn: bool,
    loss_unit: TextUnit | None,
) -> Row:
    choose = min if is_drawn else max
    state = choose((trial.state for trial in trials), key=STATE_ORDER.index)
    # A mean needs losses at one step: those of the complete trials, or if there are none of the latest step.
    complete = [trial for trial in trials if trial.state == "complete"]
    with_loss = [trial for trial in trials if trial.val_loss is not None and trial.state != "diverged"]
    latest = max((trial.step for trial in with_loss if trial.step is not None), default=None)
    measured = complete or [trial for trial in with_loss if trial.step == latest]
    # One that reported no value may have logged other metrics.
    reporting = measured or [trial for trial in trials if trial.state != "diverged"]
    facts = {(trial.study, trial.number): trial_facts(trial.attrs) for trial in trials}
    tokens = _mean([facts[trial.study, trial.number].tokens for trial in measured])
    results = [further.get(which, _NO_RESULTS) for which in ((trial.study, trial.number) for trial in reporting)]
    return Row(
        rank=None,
        cell=without_seed(trials[0].cell),
        state=state,
        trials=(len(measured), len(trials)),
        train_loss=_mean([trial.train_loss for trial in measured]),
        val_loss=_mean([trial.val_loss for trial in measured]),
        step=min((trial.step for trial in measured if trial.step is not None), default=None),
        n_params=next((each.n_params for each in facts.values() if each.n_params is not None), None),
        seconds=_mean([each.train_seconds for each in facts.values()]),
        published=published,
        tokens=None if tokens is None else round(tokens),
        flops=_mean([facts[trial.study, trial.number].flops for trial in measured]),
        seed_values={trial.seed: trial.val_loss for trial in complete if trial.val_loss is not None},
        metrics=metrics,
        further=mean_results(results, metrics),
        is_feasible=all(
            further.get((trial.study, trial.number), _NO_RESULTS).is_feasible for trial in complete or trials
        ),
        loss_unit=loss_unit,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return mean(present) if present else None


def _order(row: Row) -> tuple[int, bool, bool, float]:
    return STATE_ORDER.index(row.state), not row.is_feasible, row.on_front is False, _loss(row.metric, row.val_loss)


def _loss(metric: Metric, value: float | None) -> float:
    return math.inf if value is None else metric.loss(value)
