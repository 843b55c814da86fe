"""Comparisons: which differences between the levels of a factor are larger than chance explains."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from search.statistics.inference import ALPHA, MAX_SEEDS_NEEDED, Floats, Paired, adjusted, not_separable, paired
from search.storage.database import Database
from search.storage.queries import counts, trial_summaries
from search.storage.slots import canonical
from search.study.cells import without_seed
from search.study.claims import Scalar
from search.study.formatting import describe_cell, value_text

SUPPORTED, NOT_SUPPORTED, CANNOT_TELL = "supported", "not supported", "cannot tell"


@dataclass(frozen=True)
class Comparison:
    """Two levels of one factor, over all pairs of cells that differ in the factor alone, on the same seeds.

    Attributes:
        factor: The axis, or "cell" if two single cells are compared.
        better, worse: The two levels, or cells; `better` has the lower mean loss.
        pairs, agree: The number of matched pairs of trials, and of those in which `better` is lower.
        cells, cells_agree: The same numbers for matched pairs of cells, by the means over their seeds.
        mean: Mean loss of `worse` minus that of `better`, nats per character.
        low, high: The 95 % interval of `mean` over the seeds; None with one seed.
        p, p_adjusted: p-value of the paired t-test over the seeds, and the same corrected for all comparisons of the
            study; None with one seed.
        verdict: "supported" or "cannot tell".
        seeds_needed: Seeds with which 80 % of all experiments detect a difference of this size; None unless the
            verdict is "cannot tell", or if it is more than `MAX_SEEDS_NEEDED`.
        sentence: The comparison as text.
    """

    factor: str
    better: Any
    worse: Any
    pairs: int
    agree: int
    cells: int
    cells_agree: int
    mean: float
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    verdict: str
    seeds_needed: int | None
    sentence: str


@dataclass(frozen=True)
class Losses:
    """The final losses of a study as a table.

    Attributes:
        cells: K cells without their seeds.
        seeds: S seeds.
        table: (K, S) float64; NaN where a trial has no final loss.
        dropped: Seeds that the table leaves out, because too few cells have them.
    """

    cells: Sequence[Mapping[str, Any]]
    seeds: Sequence[int]
    table: Floats
    dropped: Sequence[int] = ()

    @classmethod
    def of(cls, observations: Iterable[tuple[Mapping[str, Any], int, float]]) -> Losses:
        """Tabulate (cell, seed, loss) triples."""
        triples = list(observations)
        cells = {canonical(cell): cell for cell, _, _ in triples}
        rows = {key: row for row, key in enumerate(cells)}
        seeds = sorted({seed for _, seed, _ in triples})
        columns = {seed: column for column, seed in enumerate(seeds)}
        table = np.full((len(cells), len(seeds)), np.nan)
        for cell, seed, loss in triples:
            table[rows[canonical(cell)], columns[seed]] = loss
        kept = _kept_seeds(table)
        dropped = [seed for seed, is_kept in zip(seeds, kept, strict=True) if not is_kept]
        seeds = [seed for seed, is_kept in zip(seeds, kept, strict=True) if is_kept]
        return cls(list(cells.values()), seeds, table[:, kept], dropped)

    @cached_property
    def complete_for_all_seeds(self) -> list[int]:
        """Rows of the cells with a final loss for every seed."""
        return [int(row) for row in np.flatnonzero(~np.isnan(self.table).any(axis=1))]

    @cached_property
    def factors(self) -> dict[str, list[Scalar]]:
        """The axes that have more than one level, and their levels."""
        levels: dict[str, list[Scalar]] = {}
        for cell in self.cells:
            for axis, value in cell.items():
                if value not in levels.setdefault(axis, []):
                    levels[axis].append(value)
        return {axis: values for axis, values in levels.items() if len(values) > 1}

    @cached_property
    def rows_by_rest(self) -> dict[str, dict[str, dict[Scalar, int]]]:
        """Rows of the cells complete for all seeds: by factor, by all other axes, and then by the factor's level."""
        found: dict[str, dict[str, dict[Scalar, int]]] = {factor: {} for factor in self.factors}
        for row in self.complete_for_all_seeds:
            cell = self.cells[row]
            for factor in found.keys() & cell.keys():
                rest = canonical({axis: value for axis, value in cell.items() if axis != factor})
                found[factor].setdefault(rest, {})[cell[factor]] = row
        return found


def _kept_seeds(table: Floats) -> npt.NDArray[np.bool_]:
    """The seeds to compare by, (S,) bool, for losses (K, S), NaN where there is none.

    A cell counts only if it has every kept seed, so a seed of which few trials have ended would exclude most cells. The
    seeds are ordered by the number of cells that have them, and the first ones are kept, as many as leave the most
    losses. The choice depends on which losses exist, not on their values.
    """
    has_loss = ~np.isnan(table)
    order = np.argsort(-has_loss.sum(axis=0), kind="stable")
    n_complete = np.logical_and.accumulate(has_loss[:, order], axis=1).sum(axis=0)
    kept = np.zeros(table.shape[1], dtype=np.bool_)
    if len(order):
        kept[order[: int(np.argmax(n_complete * np.arange(1, len(order) + 1))) + 1]] = True
    return kept


def compare_levels(losses: Losses, factor: str, one: Scalar, other: Scalar) -> Comparison | None:
    """Compare two levels of a factor over pairs of cells complete for all seeds; None if there is no such pair."""
    matched = [rows for rows in losses.rows_by_rest.get(factor, {}).values() if one in rows and other in rows]
    if not matched:
        return None
    ones, others = (losses.table[[rows[level] for rows in matched]] for level in (one, other))  # (M, S) each
    return _comparison(factor, one, other, others - ones)


def compare_cells(losses: Losses, one: Mapping[str, Any], other: Mapping[str, Any]) -> Comparison | None:
    """Compare two cells; None if one of them is missing or not complete for all seeds."""
    rows = {canonical(losses.cells[row]): row for row in losses.complete_for_all_seeds}
    if canonical(one) not in rows or canonical(other) not in rows:
        return None
    difference = losses.table[rows[canonical(other)]] - losses.table[rows[canonical(one)]]
    return _comparison("cell", dict(one), dict(other), difference[np.newaxis])


def _comparison(factor: str, one: Any, other: Any, differences: Floats) -> Comparison:
    """A comparison from `differences`, the losses of `other` minus those of `one`, (M, S) float64."""
    if differences.mean() < 0:
        one, other, differences = other, one, -differences
    found: Paired = paired(differences.mean(axis=0))
    by_cell = differences.mean(axis=1)
    return Comparison(
        factor=factor,
        better=one,
        worse=other,
        pairs=differences.size,
        agree=int((differences > 0).sum()),
        cells=len(by_cell),
        cells_agree=int((by_cell > 0).sum()),
        mean=found.mean,
        low=found.low,
        high=found.high,
        p=found.p,
        p_adjusted=None,
        verdict=CANNOT_TELL,
        seeds_needed=found.seeds_needed,
        sentence="",
    )


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Correct the p-values for the number of comparisons, and set the verdicts and sentences."""
    tested = [index for index, each in enumerate(comparisons) if each.p is not None]
    by_index = dict(zip(tested, adjusted([comparisons[index].p or 0.0 for index in tested]), strict=True))
    return [_with_verdict(each, by_index.get(index)) for index, each in enumerate(comparisons)]


def _with_verdict(comparison: Comparison, p_adjusted: float | None) -> Comparison:
    supported = p_adjusted is not None and p_adjusted <= ALPHA
    judged = replace(
        comparison,
        p_adjusted=p_adjusted,
        verdict=SUPPORTED if supported else CANNOT_TELL,
        seeds_needed=None if supported else comparison.seeds_needed,
    )
    return replace(judged, sentence=_sentence(judged))


def _sentence(comparison: Comparison) -> str:
    seeds = comparison.pairs // comparison.cells
    names = f"{describe(comparison.better)} has a lower loss than {describe(comparison.worse)}"
    if comparison.factor != "cell":
        where = f"on average, and in {comparison.cells_agree} of {comparison.cells} cells"
        names = f"{comparison.factor} {names} {where}"
    if comparison.low is None or comparison.high is None:
        return f"{names}, by {comparison.mean:.4f}; one seed cannot separate chance from effect."
    by = f"{names}, by {comparison.mean:.4f} [{comparison.low:.4f}, {comparison.high:.4f}] over {seeds} seeds"
    if comparison.verdict == SUPPORTED:
        return f"{by}: supported (p = {comparison.p_adjusted:.2g})."
    if comparison.seeds_needed is None:
        return f"{by}: cannot tell; a difference this small needs more than {MAX_SEEDS_NEEDED} seeds."
    needed = max(comparison.seeds_needed, seeds + 1)
    return f"{by}: cannot tell (p = {comparison.p_adjusted:.2g}); about {needed} seeds are needed."


def describe(value: Any) -> str:
    """A level or a cell in a few words."""
    return describe_cell(value) if isinstance(value, Mapping) else value_text(value)


def all_comparisons(losses: Losses) -> list[Comparison]:
    """Every pair of levels of every factor, not yet corrected."""
    found = [
        compare_levels(losses, factor, one, other)
        for factor, levels in losses.factors.items()
        for one, other in _matched_pairs(losses, factor, levels)
    ]
    return [each for each in found if each is not None]


def _matched_pairs(losses: Losses, factor: str, levels: Sequence[Scalar]) -> list[tuple[Scalar, Scalar]]:
    """The pairs of levels of cells that differ in nothing else.

    On an axis that is a range nearly every cell has a different level, so most pairs of levels have no such cells.
    """
    order = {level: index for index, level in enumerate(levels)}
    pairs = {
        pair
        for rows in losses.rows_by_rest[factor].values()
        for pair in itertools.combinations(sorted(rows, key=order.__getitem__), 2)
    }
    return sorted(pairs, key=lambda pair: (order[pair[0]], order[pair[1]]))


def best_cells(losses: Losses) -> tuple[Mapping[str, Any] | None, tuple[Mapping[str, Any], ...]]:
    """The cell with the lowest mean loss, and the cells that are not separable from it, itself included.

    With one seed nothing can be separated, and the second value is empty.
    """
    if not losses.complete_for_all_seeds:
        return None, ()
    table = losses.table[losses.complete_for_all_seeds]
    if table.shape[1] < 2:
        return losses.cells[losses.complete_for_all_seeds[int(np.argmin(table[:, 0]))]], ()
    tied = [losses.cells[losses.complete_for_all_seeds[row]] for row in not_separable(table)]
    return tied[0], tuple(tied)


def final_losses(database: Database, studies: Sequence[str]) -> Losses:
    """The final losses of complete trials."""
    return Losses.of(
        (without_seed(trial.cell), int(trial.cell["seed"]), trial.val_loss)
        for trial in trial_summaries(database, studies, ("complete",))
        if trial.val_loss is not None
    )


def missing_notes(database: Database, studies: Sequence[str], losses: Losses) -> list[str]:
    """What the results cannot show, and why."""
    found = counts(database, studies)
    notes = []
    if not losses.cells:
        notes.append("No trial is complete yet, so there is nothing to compare.")
    elif len(losses.seeds) < 2:
        notes.append(
            "Each cell has one seed, so no difference can be separated from chance. Run the study with --seeds 5."
        )
    if found["pruned"]:
        notes.append(
            f"{found['pruned']} trials were pruned. Their final losses are unknown, so their cells are left out. "
            "Pruning removes the worse cells, which biases the remaining comparisons towards no difference. To compare "
            "all cells, run the study with --pruner none."
        )
    failed = found["failed"] + found["diverged"]
    if failed:
        notes.append(f"{failed} trials failed or diverged and are left out.")
    if found["waiting"] + found["running"]:
        notes.append(f"{found['waiting'] + found['running']} trials have not ended yet.")
    if losses.dropped:
        seeds = ", ".join(map(str, losses.dropped))
        notes.append(f"Too few cells have a final loss for seed {seeds}; the comparisons leave it out.")
    incomplete = len(losses.cells) - len(losses.complete_for_all_seeds)
    if incomplete:
        notes.append(f"{incomplete} cells lack a final loss for some seed and are left out of the comparisons.")
    return notes
