"""What fresh seeds say about the best cell of a study and its runner-up, and what the selection had flattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search.objectives.protocol import HELD_OUT_LOSS, VAL_LOSS
from search.statistics.answers import Finding, Verdict, finding
from search.statistics.comparison import Levels
from search.statistics.comparisons import Family
from search.statistics.losses import Losses
from search.statistics.ranking import Row
from search.storage.database import Database
from search.storage.metrics import FurtherResults, further_results
from search.storage.queries import study_attrs, trial_summaries
from search.storage.values import canonical
from search.study.cells import without_seed
from search.study.confirmed_choices import CONFIRMED, Choice, parse_choices
from search.study.lookup import confirmation_of
from search.study.metrics import Metric
from search.study.stored import StoredStudy, read_stored_study

MIN_SEEDS = 2  # of a cell with an interval of its own


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval.

    Attributes:
        low, high: The interval; None with fewer than two seeds a cell, or if one diverged or failed.
    """

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def half(self) -> float | None:
        """Half of the interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True)
class ConfirmedCell:
    """A cell with its fresh seeds.

    Attributes:
        selected: The mean of the study, by which the cell was selected; None if it is no longer complete there.
        seeds, planned: The fresh seeds that are complete, and that were planned.
        others: The number of its other trials, by state.
        value: The mean of the fresh seeds on the text of the confirmation.
        same_text: Their mean on the text that the cells were selected on; None if it was not measured.
    """

    cell: Mapping[str, Any]
    selected: float | None
    seeds: int
    planned: int
    others: Mapping[str, int]
    value: Estimate | None = None
    same_text: Estimate | None = None


@dataclass(frozen=True)
class ConfirmationResult:
    """The result of a confirmation.

    Attributes:
        study: The study with the confirming trials.
        metric: What ranks the cells, of the study itself.
        text: The held-out text, in words; None if the trials were evaluated as those of the study.
        has_corpus: Whether the study has a text at all.
        winner, runner_up: The cells; None if the study had only one to rank.
        difference: By how much the winner is better than the runner-up, over the fresh seeds; None before both have
            one.
        verdict: Whether the winner is better; None without a runner-up.
        reason: What belongs to the verdict; "" for nothing.
        optimism: By how much the selected mean of the winner is better than that of its fresh seeds on the same text;
            None if that was not measured.
        is_current: Whether they are still the first two cells of the study.
    """

    study: str
    metric: Metric
    text: str | None
    has_corpus: bool
    winner: ConfirmedCell
    runner_up: ConfirmedCell | None
    difference: Estimate | None
    verdict: Verdict | None
    reason: str
    optimism: Estimate | None
    is_current: bool

    @property
    def cells(self) -> list[ConfirmedCell]:
        """The winner, and the runner-up if there is one."""
        return [self.winner, *([] if self.runner_up is None else [self.runner_up])]

    def as_dict(self) -> dict[str, Any]:
        """The result for JSON."""
        return {**asdict(self), "metric": self.metric.as_dict()}


def read_confirmation(database: Database, study: StoredStudy, rows: Sequence[Row]) -> ConfirmationResult | None:
    """The latest confirmation of a study; None if none was planned.

    Args:
        rows: The ranked table of the study; it may include baselines, which are never confirmed.
    """
    name = confirmation_of(database, study.name)
    stored = None if name is None else read_stored_study(database, name)
    choices = [] if name is None else parse_choices(study_attrs(database, name) or {})
    if name is None or stored is None or not choices:
        return None
    choice, confirmation = choices[-1], stored.definition.confirmation
    text = None if confirmation is None else confirmation.text
    fresh = _read_fresh(database, stored, choice, _same_text(stored, text))
    cells = [_confirmed(cell, choice, fresh, rows) for cell in choice.cells]
    metric, found = study.definition.metric, _compared(fresh.values, choice.cells)
    first = _first_cells(database, study.name, rows)
    return ConfirmationResult(
        study=name,
        metric=metric,
        text=text,
        has_corpus=study.corpus is not None,
        winner=cells[0],
        runner_up=cells[1] if len(cells) > 1 else None,
        difference=_difference(found),
        verdict=None if found is None else found.verdict,
        reason="" if found is None else found.detail,
        optimism=_optimism(cells[0], metric),
        is_current=first[:CONFIRMED] == [canonical(cell) for cell in choice.cells],
    )


@dataclass(frozen=True)
class _Fresh:
    """The fresh trials of a choice.

    Attributes:
        values: On the text of the confirmation.
        same_text: On the text that the cells were selected on, where that was measured.
    """

    values: Losses
    same_text: Losses


def _read_fresh(database: Database, stored: StoredStudy, choice: Choice, same_text: str | None) -> _Fresh:
    """Read the trials of the cells and seeds of a choice.

    Args:
        same_text: The metric on the text that the cells were selected on; None if there is none.
    """
    metric, chosen = stored.definition.metric, set(map(canonical, choice.cells))
    further = {} if same_text in (None, metric.name) else further_results(database, [stored.name])
    values, same, others = [], [], []
    for trial in trial_summaries(database, [stored.name]):
        cell = without_seed(trial.cell)
        if trial.seed not in choice.seeds or canonical(cell) not in chosen:
            continue
        if trial.state != "complete" or trial.val_loss is None:
            others.append((cell, trial.state))
            continue
        values.append((cell, trial.seed, trial.val_loss))
        known = {**further.get((trial.study, trial.number), FurtherResults()).metrics, metric.name: trial.val_loss}
        if same_text is not None and same_text in known:
            same.append((cell, trial.seed, known[same_text]))
    return _Fresh(Losses.of(values, metric, others), Losses.of(same, metric, others))


def _same_text(stored: StoredStudy, text: str | None) -> str | None:
    """The metric on the text that the cells were selected on; None if it is not reported."""
    name = stored.definition.metric.name
    return name if text is None else VAL_LOSS if name == HELD_OUT_LOSS else None


def _confirmed(cell: Mapping[str, Any], choice: Choice, fresh: _Fresh, rows: Sequence[Row]) -> ConfirmedCell:
    row = next((row for row in rows if canonical(row.cell) == canonical(cell)), None)
    place = fresh.values.row_by_cell.get(canonical(cell))
    return ConfirmedCell(
        cell=cell,
        selected=None if row is None or row.state != "complete" else row.val_loss,
        seeds=0 if place is None else int(fresh.values.count[place]),
        planned=len(choice.seeds),
        others={} if place is None else dict(fresh.values.others[place]),
        value=_estimate(fresh.values, cell),
        same_text=_estimate(fresh.same_text, cell),
    )


def _estimate(losses: Losses, cell: Mapping[str, Any]) -> Estimate | None:
    """The mean of a cell, with the noise model of all fresh trials; no interval if a trial diverged or failed."""
    place = losses.row_by_cell.get(canonical(cell))
    if place is None or not losses.count[place]:
        return None
    mean = losses.metric.sign * losses.in_values(float(losses.mean[place]))
    posterior = losses.posterior
    if posterior is None or not losses.comparable[place] or losses.count[place] < MIN_SEEDS:
        return Estimate(mean)
    half = losses.in_values(float(posterior.noise.mean_reach[place]))
    return Estimate(mean, mean - half, mean + half)


def _compared(losses: Losses, cells: Sequence[Mapping[str, Any]]) -> Finding | None:
    """Whether the first cell is better than the other, by the rules of all verdicts."""
    if len(cells) < CONFIRMED:
        return None
    family, levels = Family(losses), Levels("cell", *cells)
    family.add(levels)
    return finding(cells[0], family.compare(family.contrasts()).get(levels.key), "no fresh seed has ended")


def _difference(found: Finding | None) -> Estimate | None:
    """By how much the winner is better; negative if it is worse."""
    comparison = None if found is None else found.comparison
    if found is None or comparison is None or not comparison.compared:
        return None
    sign = 1 if canonical(comparison.better) == canonical(found.first) else -1
    if comparison.alone_low is None or comparison.alone_high is None:
        return Estimate(sign * comparison.mean)
    low, high = sorted((sign * comparison.alone_low, sign * comparison.alone_high))
    return Estimate(sign * comparison.mean, low, high)


def _optimism(winner: ConfirmedCell, metric: Metric) -> Estimate | None:
    """By how much the selected mean is better than the mean of the fresh seeds on the same text."""
    fresh = winner.same_text
    if fresh is None or winner.selected is None:
        return None
    mean = metric.loss(fresh.mean) - metric.loss(winner.selected)
    if fresh.low is None or fresh.high is None:
        return Estimate(mean)
    half = (fresh.high - fresh.low) / 2
    return Estimate(mean, mean - half, mean + half)


def _first_cells(database: Database, study: str, rows: Sequence[Row]) -> list[str]:
    """The ranked cells of a study itself, as canonical texts; baselines are outside of its search."""
    own = {canonical(without_seed(trial.cell)) for trial in trial_summaries(database, [study], ("complete",))}
    return [cell for row in rows if row.rank is not None and (cell := canonical(row.cell)) in own]
