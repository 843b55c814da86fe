"""What a report shows, gathered from the database in a few queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from search.reporting.charts import Bar, Line, over_seeds
from search.reporting.heatmaps import Axes, HeatMaps, choose_axes, heat_maps
from search.reporting.toml_export import study_as_toml
from search.statistics.ranking import Row, ranked_rows
from search.statistics.verdicts import Verdicts, judge
from search.storage.database import Database
from search.storage.queries import TrialHistory, counts, trial_histories
from search.storage.slots import canonical
from search.study.cells import BASELINES_SUFFIX, without_seed
from search.study.claims import Cell
from search.study.formatting import value_text
from search.study.stored import PAGE_FACTS, StoredStudy, read_stored_study, trial_facts
from search.study.user_modules import user_modules

BEST_LINES = 5  # lines of the chart of the best cells; more of them cannot be told apart
MOST_FACETS = 6


@dataclass(frozen=True)
class Sample:
    """Text that one trained model wrote."""

    cell: str
    seed: Any
    text: str


@dataclass(frozen=True)
class ReportData:
    """A study as a report shows it.

    Attributes:
        stored: The study as it was planned.
        counts: Trials by state.
        rows: The ranked table, all of it.
        histories: Every trial over time; empty where a format has no use for them.
        baselines: The cells of the sibling study.
        verdicts: What search.statistics.verdicts says of the study; None where a format has no use for it.
    """

    name: str
    stored: StoredStudy
    counts: Mapping[str, int]
    rows: Sequence[Row]
    histories: Sequence[TrialHistory] = ()
    baselines: Sequence[Cell] = ()
    verdicts: Verdicts | None = None

    @property
    def grid(self) -> Mapping[str, Sequence[Any]]:
        """The axes of the study."""
        return self.stored.definition.grid

    @property
    def axes(self) -> Axes:
        """How the grid is laid out."""
        return choose_axes(self.grid)

    @property
    def bigram_baseline(self) -> float | None:
        """The validation loss of the bigram baseline, in nats per character; None if it was not computed."""
        return self.stored.bigram_baseline

    @property
    def unit(self) -> str:
        """What losses are measured in."""
        return "units of the objective" if self.stored.corpus is None else "nats per character"

    @property
    def user_modules(self) -> list[str]:
        """The modules that the study needs besides those of lm-search."""
        return user_modules(replace(self.stored.definition, baselines=self.baselines))

    @property
    def ranked(self) -> list[Row]:
        """The rows with a final loss of every seed."""
        return [row for row in self.rows if row.rank is not None]

    def label(self, cell: Mapping[str, Any]) -> str:
        """A cell in a few words: what all cells have in common is left out."""
        same = {name for name, values in self.grid.items() if len(values) == 1 and cell.get(name) == values[0]}
        told = [f"{name} {value_text(value)}" for name, value in cell.items() if name not in same]
        return ", ".join(told) or "the only cell"

    @property
    def missing(self) -> list[str]:
        """What a reader must know about what is not there, in sentences."""
        return missing(self.counts, self.rows)

    def heat_maps(self) -> HeatMaps | None:
        """The maps of the grid; None where there is nothing to show."""
        return heat_maps(self.rows, self.grid)

    @cached_property
    def _by_cell(self) -> Mapping[str, list[TrialHistory]]:
        found: dict[str, list[TrialHistory]] = {}
        for run in self.histories:
            if run.state == "complete":
                found.setdefault(canonical(without_seed(run.cell)), []).append(run)
        return found

    def leaders(self) -> list[Row]:
        """The best cell of each value of the facet axis and of each model outside the grid, best first."""
        chosen: dict[Any, Row] = {}
        for row in self.ranked:
            facet = row.cell.get(self.axes.facet or "")
            chosen.setdefault((facet, row.cell.get("model")), row)
        return list(chosen.values())[:MOST_FACETS]

    def curves(self, rows: Sequence[Row]) -> list[Line]:
        """Learning curves of cells, the loss before training left out."""
        lines = []
        for row in rows:
            runs = self._by_cell.get(canonical(row.cell), [])
            points = [point for point in over_seeds([run.curve for run in runs]) if point.x > 0]
            if points:
                lines.append(Line(self.label(row.cell), points))
        return lines

    def by_position(self, rows: Sequence[Row]) -> list[Line]:
        """Validation loss by position in the window, position 1 being the first character predicted."""
        lines = []
        for row in rows:
            runs = self._by_cell.get(canonical(row.cell), [])
            found = [losses for run in runs if (losses := trial_facts(run.attrs).val_loss_by_position)]
            points = over_seeds([dict(enumerate(losses, start=1)) for losses in found])
            if points:
                lines.append(Line(self.label(row.cell), points))
        return lines

    def bars(self) -> list[Bar]:
        """When each ended trial ran."""
        ran = [(run.started, run.ended, run.state) for run in self.histories if run.started and run.ended]
        first = min((started for started, _, _ in ran), default=None)
        if first is None:
            return []
        return [
            Bar((started - first).total_seconds(), (ended - first).total_seconds(), state)
            for started, ended, state in ran
        ]

    def samples(self, rows: Sequence[Row]) -> list[Sample]:
        """What the first seed of each cell wrote."""
        found = []
        for row in rows:
            for run in self._by_cell.get(canonical(row.cell), []):
                if sample := trial_facts(run.attrs).sample:
                    found.append(Sample(self.label(row.cell), run.seed, sample))
                    break
        return found

    def environments(self) -> list[tuple[str, str]]:
        """What the trials ran on, by name; several values where trials differ, "" where none is recorded."""
        found: dict[str, dict[str, None]] = {}
        for run in self.histories:
            for name, value in (trial_facts(run.attrs).record or {}).items():
                found.setdefault(name, {})[str(value)] = None
        return [(name, "; ".join(values)) for name, values in found.items()]

    def study_file(self) -> str:
        """The study as TOML, to run it again."""
        own = [run for run in self.histories if run.study == self.name]
        return study_as_toml(self.stored, self.baselines, own)


def read_report_data(database: Database, names: Sequence[str], *, with_histories: bool) -> ReportData:
    """Read what a report needs.

    Args:
        names: The study, and its sibling with the baselines if that is to be shown.
        with_histories: With the trials' histories, verdicts and samples: what only the page shows.
    """
    stored = read_stored_study(database, names[0])
    assert stored is not None, "open_studies looked"
    rows, found = ranked_rows(database, names, stored.published), counts(database, names)
    if not with_histories:
        return ReportData(names[0], stored, found, rows)
    histories = trial_histories(database, names, PAGE_FACTS)
    sibling = next((name for name in names[1:] if name.endswith(BASELINES_SUFFIX)), None)
    its = None if sibling is None else read_stored_study(database, sibling)
    baselines = () if its is None else its.definition.baselines
    verdicts = judge(database, names, stored.claims)
    return ReportData(names[0], stored, found, rows, histories, baselines, verdicts)


def missing(found: Mapping[str, int], rows: Sequence[Row]) -> list[str]:
    """What a table of these trials lacks, in sentences; none when it lacks nothing."""
    total, said = sum(found.values()), []
    ended = total - found["waiting"] - found["running"]
    if total == 0:
        return ["This study has no trials."]
    if ended == 0:
        said.append(f"None of the {total} trials has ended yet, so there is nothing to rank.")
    elif ended < total:
        said.append(f"{total - ended} of {total} trials have not ended yet; the ranks may still change.")
    if ended and not found["complete"]:
        said.append("No trial was trained to its end, so no cell has a final loss and none is ranked.")
    if found["pruned"]:
        said.append(
            f"{found['pruned']} of {total} trials were pruned (stopped early); their losses are not final "
            "and cannot be compared with those of complete trials."
        )
    for state, words in (
        ("failed", "failed with an error"),
        ("diverged", "diverged (their loss became NaN or infinite)"),
    ):
        if found[state]:
            said.append(f"{found[state]} of {total} trials {words}.")
    if found["complete"] and all(row.trials[1] <= 1 for row in rows):
        said.append("Every cell has one seed, so there are no intervals and small differences may be chance.")
    return said
