"""The data of a report, read from the database in a few queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution

from search.reporting.charts import Bar
from search.reporting.curves import BEST_LINES, DrawnTrials, read_drawn_trials
from search.reporting.missing_text import missing, seeds_sentence, target_sentence
from search.reporting.next_steps import NextStep, next_steps
from search.reporting.plain_answers import Terms
from search.reporting.toml_export import study_as_toml
from search.statistics.cost import StudyCost, study_cost
from search.statistics.ranking import Row, rank_trials
from search.statistics.study_verdicts import judge
from search.statistics.verdicts import Verdicts
from search.storage.database import Database
from search.storage.process_costs import run_cost
from search.storage.queries import TrialSummary, attr_counts, counts, trial_summaries
from search.storage.trial_histories import TrialSpan, trial_spans
from search.storage.url import display_url
from search.storage.values import canonical
from search.study.cells import BASELINES_SUFFIX
from search.study.claims import Cell
from search.study.code_versions import count_by_code
from search.study.distributions import study_distributions
from search.study.formatting import axis_digits, describe_level
from search.study.lookup import confirmation_of
from search.study.metrics import DEFAULT_NAME, Metric
from search.study.stored import StoredStudy, read_stored_study
from search.study.trial_facts import ENVIRONMENT, TABLE_FACTS
from search.study.user_modules import user_modules

if TYPE_CHECKING:
    from search.reporting.heatmaps import HeatMaps, MapAxes
    from search.statistics.confirmation import ConfirmationResult

MOST_FACETS = 6


@dataclass(frozen=True)
class ReportData:
    """The data of a study that reports show.

    Attributes:
        stored: The planned study.
        counts: The number of trials by state.
        rows: The whole ranked table.
        trials: Every trial.
        spans: When each ended trial ran; empty if the format does not need it, as the next two.
        records: The different records of versions and machines, of which trials have one each.
        drawn: The trials whose curves are drawn.
        baselines: The cells of the sibling study.
        verdicts: The verdicts of the study; None if the format does not need them.
        codes: The number of trials that each version of the code has made, by its digest.
        confirmation: What fresh seeds say about the best cell; None without a confirmation.
        storage: The URL of the database, without a password.
        seeds_given: With automatic seeds, how many further trials each question got.
        distributions: Of the axes, by name: those that the objective suggests, or those of the study file.
        cost: What the study has cost.
    """

    name: str
    stored: StoredStudy
    counts: Mapping[str, int]
    rows: Sequence[Row]
    trials: Sequence[TrialSummary] = ()
    spans: Sequence[TrialSpan] = ()
    records: Sequence[Mapping[str, Any]] = ()
    drawn: DrawnTrials = field(default_factory=DrawnTrials)
    baselines: Sequence[Cell] = ()
    verdicts: Verdicts | None = None
    codes: Mapping[str, int] = field(default_factory=dict)
    confirmation: ConfirmationResult | None = None
    storage: str = ""
    seeds_given: Mapping[str, int] = field(default_factory=dict)
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    cost: StudyCost | None = None

    @property
    def grid(self) -> Mapping[str, Sequence[Any]]:
        """The axes of the study that are lists."""
        return self.stored.definition.grid

    @property
    def failed(self) -> list[TrialSummary]:
        """The trials that failed for good."""
        return [trial for trial in self.trials if trial.state == "failed"]

    @cached_property
    def map_axes(self) -> MapAxes:
        """The axes that the heat maps show."""
        from search.reporting.heatmaps import choose_axes

        return choose_axes(self.stored.definition.shared_grid)

    @property
    def bigram_baseline(self) -> float | None:
        """The validation loss of the bigram baseline, in nats per character; None if it was not computed."""
        return self.stored.bigram_baseline

    def minus_baseline(self, row: Row) -> float | None:
        """The loss of a complete cell minus the bigram baseline; None if there is no such difference."""
        if self.bigram_baseline is None or row.val_loss is None or row.state != "complete":
            return None
        return row.val_loss - self.bigram_baseline

    @property
    def unit(self) -> str:
        """The unit of the values; "" if it is not known."""
        is_loss = bool(self.stored.corpus) and self.metric.name == DEFAULT_NAME
        return self.stored.text_unit.nats if is_loss or self.stored.loss_unit else ""

    @property
    def metric(self) -> Metric:
        """What ranks the cells."""
        return self.stored.definition.metric

    @property
    def terms(self) -> Terms:
        """What its values are called."""
        return Terms(self.metric, self.digits, self.unit)

    @property
    def metric_title(self) -> str:
        """The metric with its unit, for an axis of a chart."""
        return f"{self.metric.label}, {self.unit}" if self.unit else self.metric.label

    @property
    def user_modules(self) -> list[str]:
        """The modules of the study that are not part of lm-search."""
        return user_modules(replace(self.stored.definition, baselines=self.baselines))

    @cached_property
    def ranked(self) -> list[Row]:
        """The rows with a final loss of every seed."""
        return [row for row in self.rows if row.rank is not None]

    @cached_property
    def digits(self) -> Mapping[str, int]:
        """The digits that tell the values of each axis apart, by axis."""
        return axis_digits(row.cell for row in self.rows)

    def label(self, cell: Mapping[str, Any]) -> str:
        """A cell in a few words, without the values that all cells share."""
        shared = {name for name, values in self.grid.items() if len(values) == 1 and cell.get(name) == values[0]}
        parts = [f"{name} {self.value(name, value)}" for name, value in cell.items() if name not in shared]
        return ", ".join(parts) or "the only cell"

    def value(self, axis: str, value: Any) -> str:
        """A value of an axis, or a cell, as text that differs from the texts of other values."""
        return describe_level(axis, value, self.digits)

    @property
    def missing(self) -> list[str]:
        """Sentences about missing results that a reader needs to know."""
        return missing(self.counts, self.rows, self.metric)

    @property
    def remarks(self) -> list[str]:
        """What a reader needs to know: what is missing, the notes, and those of the verdicts, each said once."""
        if self.verdicts is None or not self.counts["complete"]:
            return [*self.missing, *self.notes]
        return [*missing(self.counts, self.rows, self.metric, is_judged=True), *self.notes, *self.verdicts.notes]

    @property
    def notes(self) -> list[str]:
        """Sentences that a reader needs to know besides those of `missing`."""
        sentences = [target_sentence(self.stored.target, self.rows), seeds_sentence(self.seeds_given)]
        if self.stored.published_left_out:
            sentences.append(f"The published losses are left out: {self.stored.published_left_out}.")
        if len(self.codes) > 1:
            made = ", ".join(f"{count} by {code}" for code, count in self.codes.items())
            sentences.append(
                f"The trials were made by {len(self.codes)} versions of the code ({made}); their results may differ "
                "for that reason."
            )
        return [sentence for sentence in sentences if sentence]

    def next_steps(self) -> list[NextStep]:
        """What to run next."""
        is_confirmed = self.confirmation is not None and self.confirmation.is_current
        return next_steps(self.stored, self.counts, self.rows, self.verdicts, self.storage, is_confirmed=is_confirmed)

    def heat_maps(self) -> HeatMaps | None:
        """The maps of the grid; None if there is nothing to show."""
        from search.reporting.heatmaps import heat_maps

        definition = self.stored.definition
        found = heat_maps(self.rows, definition.shared_grid)
        if found is None or not definition.exclude:
            return found
        return replace(found, notes=[*found.notes, "A cell that the study excludes has no value."])

    def leaders(self) -> list[Row]:
        """The best cell of each value of the facet axis and of each model outside the grid, best first."""
        chosen: dict[Any, Row] = {}
        for row in self.ranked:
            facet = row.cell.get(self.map_axes.facet or "")
            chosen.setdefault((facet, row.cell.get("model")), row)
        return list(chosen.values())[:MOST_FACETS]

    def bars(self) -> list[Bar]:
        """The start and the end of each ended trial."""
        first = min((span.started for span in self.spans), default=None)
        if first is None:
            return []
        return [
            Bar((span.started - first).total_seconds(), (span.ended - first).total_seconds(), span.state)
            for span in self.spans
        ]

    def environments(self) -> list[tuple[str, str]]:
        """Versions and machines of the trials, by name; all values if trials differ."""
        found: dict[str, dict[str, None]] = {}
        for record in self.records:
            for name, value in record.items():
                found.setdefault(name, {})[str(value)] = None
        return [(name, "; ".join(values)) for name, values in found.items()]

    def study_file(self) -> str:
        """The study as TOML, to run it again."""
        seeds = {trial.seed for trial in self.trials if trial.study == self.name}
        return study_as_toml(self.stored, self.baselines, sorted(seeds))


def read_report_data(
    database: Database, names: Sequence[str], *, with_trials: bool, with_verdicts: bool = True
) -> ReportData:
    """Read the data of a report.

    Args:
        names: The study, and its sibling with the baselines if the report includes it.
        with_trials: Whether to read what only the page shows.
        with_verdicts: Whether to judge the results.
    """
    stored = read_stored_study(database, names[0])
    assert stored is not None, "open_studies checked that it exists"
    trials = trial_summaries(database, names, attrs=TABLE_FACTS)
    rows = rank_trials(database, names, trials, stored, stored.published)
    records = attr_counts(database, names, ENVIRONMENT)
    sibling = next((name for name in names[1:] if name.endswith(BASELINES_SUFFIX)), None)
    stored_sibling = None if sibling is None else read_stored_study(database, sibling)
    given = Counter(stored.seeds_given) + Counter({} if stored_sibling is None else stored_sibling.seeds_given)
    found = ReportData(
        names[0],
        stored,
        counts(database, names),
        rows,
        trials,
        verdicts=judge(trials, stored, rows) if with_verdicts else None,
        codes=count_by_code(records),
        confirmation=_confirmation(database, stored, rows),
        storage=display_url(database.engine.url),
        seeds_given=given,
        cost=study_cost(stored, trials, [record for _, record, _ in records], run_cost(database, names)),
    )
    if not with_trials:
        return found
    drawn = [*found.leaders(), *found.ranked[:BEST_LINES]]
    labels = {canonical(row.cell): found.label(row.cell) for row in drawn}
    return replace(
        found,
        spans=trial_spans(database, names),
        records=[record for _, record, _ in records if isinstance(record, Mapping)],
        baselines=() if stored_sibling is None else stored_sibling.definition.baselines,
        distributions=study_distributions(database, names[0], stored.definition),
        drawn=read_drawn_trials(database, trials, labels, is_ours=stored.definition.is_ours),
    )


def _confirmation(database: Database, stored: StoredStudy, rows: Sequence[Row]) -> ConfirmationResult | None:
    if confirmation_of(database, stored.name) is None:
        return None
    from search.statistics.confirmation import read_confirmation

    return read_confirmation(database, stored, rows)
