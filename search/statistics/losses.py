"""The final losses of a study as a table of cells and seeds, and what it lacks.

Statistics need to know no direction: they work on losses, of which lower ones are better. `Losses.of` makes them from
values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from search.statistics.inference import Floats, not_separable, unit
from search.storage.database import Database
from search.storage.queries import counts, trial_summaries
from search.storage.values import canonical
from search.study.cells import without_seed
from search.study.claims import Scalar
from search.study.formatting import axis_digits, count_text, describe_level
from search.study.metrics import DEFAULT_METRIC, Metric
from search.study.stored import read_stored_study


@dataclass(frozen=True)
class Losses:
    """The final losses of a study as a table.

    Attributes:
        cells: K cells without their seeds.
        seeds: S seeds.
        table: (K, S) float64; NaN where a trial has no final loss.
        dropped: Seeds that the table leaves out, because too few cells have them.
        metric: Whose values are behind the losses.
    """

    cells: Sequence[Mapping[str, Any]]
    seeds: Sequence[int]
    table: Floats
    dropped: Sequence[int] = ()
    metric: Metric = DEFAULT_METRIC

    @classmethod
    def of(
        cls, observations: Iterable[tuple[Mapping[str, Any], int, float]], metric: Metric = DEFAULT_METRIC
    ) -> Losses:
        """Tabulate (cell, seed, value) triples.

        Args:
            metric: What the values are of.
        """
        triples = list(observations)
        cells = {canonical(cell): cell for cell, _, _ in triples}
        rows = {key: row for row, key in enumerate(cells)}
        seeds = sorted({seed for _, seed, _ in triples})
        columns = {seed: column for column, seed in enumerate(seeds)}
        table = np.full((len(cells), len(seeds)), np.nan)
        for cell, seed, value in triples:
            table[rows[canonical(cell)], columns[seed]] = metric.loss(value)
        kept = _kept_seeds(table)
        dropped = [seed for seed, is_kept in zip(seeds, kept, strict=True) if not is_kept]
        seeds = [seed for seed, is_kept in zip(seeds, kept, strict=True) if is_kept]
        return cls(list(cells.values()), seeds, table[:, kept], dropped, metric)

    @cached_property
    def unit(self) -> float:
        """The power of two that `scaled` is in units of."""
        return unit(self.table.flat)

    @cached_property
    def scaled(self) -> Floats:
        """The table in units of `unit`: sums and squares of these losses stay finite."""
        return self.table / self.unit

    @cached_property
    def digits(self) -> Mapping[str, int]:
        """The digits that tell the values of each axis apart, by axis."""
        return axis_digits(self.cells)

    def describe(self, factor: str, value: Any) -> str:
        """A level of a factor, or a cell, in a few words."""
        return describe_level(factor, value, self.digits)

    @cached_property
    def complete_for_all_seeds(self) -> list[int]:
        """Rows of the cells with a final loss for every seed."""
        return [int(row) for row in np.flatnonzero(~np.isnan(self.table).any(axis=1))]

    @cached_property
    def row_by_cell(self) -> Mapping[str, int]:
        """Rows of the cells with a final loss for every seed, by canonical cell."""
        return {canonical(self.cells[row]): row for row in self.complete_for_all_seeds}

    @cached_property
    def factors(self) -> dict[str, list[Scalar]]:
        """The axes that have more than one level, and their levels."""
        levels: dict[str, dict[Scalar, None]] = {}
        for cell in self.cells:
            for axis, value in cell.items():
                levels.setdefault(axis, {}).setdefault(value)
        return {axis: list(values) for axis, values in levels.items() if len(values) > 1}

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


def best_cells(losses: Losses) -> tuple[Mapping[str, Any] | None, tuple[Mapping[str, Any], ...]]:
    """The cell with the lowest mean loss, and the cells that are not separable from it, itself included.

    With one seed nothing can be separated, and the second value is empty.
    """
    if not losses.complete_for_all_seeds:
        return None, ()
    table = losses.scaled[losses.complete_for_all_seeds]
    if table.shape[1] < 2:
        return losses.cells[losses.complete_for_all_seeds[int(np.argmin(table[:, 0]))]], ()
    tied = [losses.cells[losses.complete_for_all_seeds[row]] for row in not_separable(table)]
    return tied[0], tuple(tied)


def final_losses(database: Database, studies: Sequence[str]) -> Losses:
    """The final losses of complete trials."""
    stored = read_stored_study(database, studies[0])
    values = (
        (without_seed(trial.cell), int(trial.cell["seed"]), trial.val_loss)
        for trial in trial_summaries(database, studies, ("complete",))
        if trial.val_loss is not None
    )
    return Losses.of(values) if stored is None else Losses.of(values, stored.definition.metric)


def missing_notes(database: Database, studies: Sequence[str], losses: Losses) -> list[str]:
    """What the results cannot show, and why."""
    found = counts(database, studies)
    stored = read_stored_study(database, studies[0])
    # Nothing can be advised about a study that lm-search cannot run.
    is_ours = stored is None or not stored.is_made_by_optuna
    takes_seeds = is_ours and not (stored is not None and stored.definition.suggests_parameters)
    notes, name = [], losses.metric.short_label
    if not losses.cells:
        notes.append("No trial is complete yet, so there is nothing to compare.")
    elif len(losses.seeds) + len(losses.dropped) < 2:
        notes.append(
            "Each cell has one seed, so no difference can be separated from chance."
            + (" Run the study with --seeds 5." if takes_seeds else "")
        )
    if found["pruned"]:
        notes.append(
            f"{count_text(found['pruned'], 'trial was', 'trials were')} pruned, and the final {name} of a pruned trial "
            "is unknown, so its cell is left out. "
            "Pruning removes the worse cells, which biases the remaining comparisons towards no difference."
            + (" To compare all cells, run the study with --pruner none." if is_ours else "")
        )
    failed = found["failed"] + found["diverged"]
    if failed:
        notes.append(f"{count_text(failed, 'trial')} failed or diverged; such trials are left out.")
    if found["waiting"] + found["running"]:
        left = found["waiting"] + found["running"]
        notes.append(f"{count_text(left, 'trial has', 'trials have')} not ended yet.")
    if losses.dropped:
        seeds = ", ".join(map(str, losses.dropped))
        notes.append(f"Too few cells have a final {name} for seed {seeds}; the comparisons leave it out.")
    incomplete = len(losses.cells) - len(losses.complete_for_all_seeds)
    if incomplete:
        lack = count_text(incomplete, "cell lacks", "cells lack")
        notes.append(f"{lack} a final {name} for some seed; the comparisons leave such cells out.")
    return notes
