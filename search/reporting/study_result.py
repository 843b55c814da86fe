"""What `run_study` returns: the ranked table, and what a notebook asks of it.

What reports are made with is imported when one is asked for: a run starts its workers sooner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import UsageError
from search.statistics.further_means import TRAIN_LOSS
from search.storage.database import Database
from search.storage.metrics import FurtherResults, further_results
from search.storage.queries import TrialSummary, trial_summaries
from search.storage.spending import Budget, Spent
from search.storage.values import canonical
from search.study.cells import without_seed
from search.study.formatting import count_text, describe_cell, loss_text
from search.study.lookup import open_studies, study_and_storage
from search.study.metrics import DEFAULT_NAME
from search.study.stored import read_stored_study
from search.study.trial_facts import TABLE_FACTS, trial_facts

if TYPE_CHECKING:
    import pandas

    from search.reporting.answers_text import ShortAnswer
    from search.reporting.comparison_report import ComparisonReport
    from search.reporting.next_steps import NextStep
    from search.reporting.report_data import ReportData
    from search.statistics.confirmation import ConfirmationResult
    from search.statistics.estimate import Estimate
    from search.statistics.ranking import Row

# How long to wait for a database that is starting, in seconds.
WAIT_S = 60.0
# The columns of a table of trials besides those of parameters and the metric.
BEFORE, AFTER = ("study", "number", "state", "seed"), ("train_loss", "step", "seconds")


@dataclass(frozen=True, repr=False)
class Best:
    """The best cell.

    Attributes:
        params: Its parameters, without the seed.
        value: Its value; the mean over its seeds.
        trial: The number of its trial, of the first one if it has several seeds.
        probability: That it is truly the best cell; None without a second seed.
        regret: By how much it is expected to be worse than the truly best cell; None without a second seed.
        bits: A language model's value in bits: per byte where the bytes are known, else per character or token.
        perplexity: A language model's value as perplexity.
    """

    params: Mapping[str, Any]
    value: float
    trial: int
    probability: float | None = None
    regret: float | None = None
    bits: float | None = None
    perplexity: float | None = None

    def __repr__(self) -> str:
        known = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if value is not None)
        return f"Best({known})"


@dataclass(frozen=True, repr=False)
class StudyResult:
    """The result of a run.

    Attributes:
        study: The study's name in the database.
        storage: The storage URL.
        rows: The ranked table.
        counts: The number of trials by state.
        seconds: How long the run took.
        exit_code: The exit code of the command line.
        profile: The workers' time in seconds by kind of work; empty without `profile`.
        target: The value at which the run stops; None for none.
        confirmation: What fresh seeds say about the best cell; None without `confirm`.
        budget: How much the trials may take; None for no limit.
        spent: What they have taken, in this and earlier runs; None without a budget.
        estimate: What the trials that are left will take; None unless the run only plans.
    """

    study: str
    storage: str
    rows: list[Row]
    counts: dict[str, int]
    seconds: float
    exit_code: int
    profile: dict[str, float] = field(default_factory=dict)
    target: float | None = None
    confirmation: ConfirmationResult | None = None
    budget: Budget | None = None
    spent: Spent | None = None
    estimate: Estimate | None = None

    @property
    def target_reached(self) -> bool | None:
        """Whether a complete trial is at least as good as `target`; None without a target."""
        from search.statistics.ranking import is_reached

        return is_reached(self.target, self.rows)

    @property
    def best(self) -> Best | None:
        """The best cell, baselines left out; None before one is complete."""
        from search.statistics.study_verdicts import judge

        with self._opened() as (database, names):
            trials = trial_summaries(database, names)
            stored = read_stored_study(database, self.study)
        candidates = () if stored is None else judge(trials, stored, self.rows).candidates
        numbers: dict[str, int] = {}
        for trial in trials:
            if trial.state == "complete" and trial.study == self.study:
                numbers.setdefault(canonical(without_seed(trial.cell)), trial.number)
        for row in self.rows:
            number = numbers.get(canonical(row.cell))
            if row.rank is not None and row.val_loss is not None and number is not None:
                chosen = next((each for each in candidates if canonical(each.cell) == canonical(row.cell)), None)
                probability, regret = (None, None) if chosen is None else (chosen.probability, chosen.regret)
                return Best(row.cell, row.val_loss, number, probability, regret, row.bits, row.perplexity)
        return None

    @property
    def answers(self) -> list[ShortAnswer]:
        """The answers to the claims of the study, in their order."""
        from search.reporting.answers_text import short_answers

        return short_answers(self._decided())

    @property
    def next_steps(self) -> list[NextStep]:
        """What to run next, the most urgent first."""
        return self._decided().next_steps()

    def closing_lines(self) -> list[str]:
        """The answers to the claims and the next step, as lines for a terminal."""
        from search.reporting.answers_text import closing_lines

        return closing_lines(self._decided())

    def _decided(self) -> ReportData:
        from search.reporting.report_data import read_report_data

        with self._opened() as (database, names):
            return read_report_data(database, names, with_trials=False)

    def to_dataframe(self) -> pandas.DataFrame:
        """The trials as a pandas DataFrame: a column for each parameter and metric, and seed, state, step and seconds.

        A parameter that is called as another column gets the prefix "params_", a further metric "values_". Columns that
        are empty for all trials are left out, and so is the seed of an objective that takes none.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise UsageError("to_dataframe needs pandas; install it with: pip install pandas") from error
        with self._opened() as (database, names):
            trials = trial_summaries(database, names, attrs=TABLE_FACTS)
            stored = read_stored_study(database, self.study)
            results = further_results(database, names)
        metrics = [DEFAULT_NAME] if stored is None else [each.name for each in stored.definition.metrics]
        further = [_further(results.get((trial.study, trial.number)), metrics) for trial in trials]
        unit = None if stored is None else stored.loss_unit
        units = [] if unit is None else [*unit.values(None)]
        own = (*BEFORE, metrics[0], *units, *AFTER)
        others = {name: f"values_{name}" if name in own else name for each in further for name in each}
        axes = {name: None for trial in trials for name in without_seed(trial.cell)}
        titles = {name: f"params_{name}" if name in (*own, *others.values()) else name for name in axes}
        rows = [
            _as_dict(trial, titles, metrics[0])
            | ({} if unit is None else unit.values(trial.val_loss))
            | {others[name]: value for name, value in each.items()}
            for trial, each in zip(trials, further, strict=True)
        ]
        takes_seed = stored is None or not (stored.definition.suggests_parameters or stored.is_made_by_optuna)
        left_out = {"study"} if len(names) == 1 else set()
        left_out |= set() if takes_seed else {"seed"}
        left_out |= {name for name in AFTER if rows and all(row[name] is None for row in rows)}
        columns = [*BEFORE, *titles.values(), metrics[0], *units, *others.values(), *AFTER]
        return pandas.DataFrame(rows, columns=[name for name in columns if name not in left_out])

    def report(self, format: str = "markdown", top: int | None = None, columns: Sequence[str] | None = None) -> str:
        """The report, as `search.report` prints it.

        Args:
            format: "markdown", "csv", "json", "latex" or "html".
            top: Only the best rows of the table; None for all.
            columns: The columns of the table, in their order; None for those with something to say.

        Raises:
            UsageError: The format or a column is unknown, or the study was deleted.
        """
        from search.reporting.render import FORMATS, render

        if format not in FORMATS:
            raise UsageError(f"format = {format!r}: choices are {', '.join(FORMATS)}")
        with self._opened() as (database, names):
            return render(database, names, format, top, columns=columns)

    def save_report(self, path: str | Path) -> Path:
        """Write the report to a file; its suffix is .html, .md, .csv, .json or .tex.

        Returns:
            The file.

        Raises:
            UsageError: The suffix is unknown, or the file cannot be written.
        """
        from search.reporting.render import FORMATS, format_of

        path = Path(path)
        if path.suffix.lower() not in FORMATS.values():
            raise UsageError(f"save_report({str(path)!r}): choices of the suffix are {', '.join(FORMATS.values())}")
        try:
            path.write_text(self.report(format_of(path)) + "\n", encoding="utf-8", errors="replace")
        except OSError as error:
            raise UsageError(f"save_report({str(path)!r}): {error.strerror}; choose a writable file") from error
        return path

    def compare(self, other: StudyResult | str) -> ComparisonReport:
        """Compare this study with another one, cell by cell.

        Args:
            other: The other result, or the name of a study in the same database, or NAME@URL in another one.

        Returns:
            What `search.report` shows of two studies: `.report(format)` is the text, `.results` the numbers.

        Raises:
            UsageError: The other study does not exist, or the two cannot be compared.
        """
        from search.reporting.comparison_report import read_comparison

        place = study_and_storage(other, self.storage) if isinstance(other, str) else (other.study, other.storage)
        return read_comparison((self.study, self.storage), place, WAIT_S, baselines=True)

    def __repr__(self) -> str:
        ended = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count) or "no trials"
        best = next((row for row in self.rows if row.rank is not None), None)
        found = "" if best is None else f"; best {loss_text(best.val_loss)} ({describe_cell(best.cell)})"
        if on_front := sum(row.on_front is True for row in self.rows):
            found = f"; {count_text(on_front, 'cell')} on the Pareto front"
        return f"StudyResult({self.study}: {ended}{found}; {self.seconds:.1f} s)"

    def _repr_html_(self) -> str:
        from search.reporting.notebook import result_as_html

        with self._opened() as (database, names):
            return result_as_html(database, names, repr(self))

    @contextmanager
    def _opened(self) -> Iterator[tuple[Database, list[str]]]:
        database, names = open_studies(self.study, self.storage, WAIT_S, baselines=True)
        with database.closing():
            yield database, names


def _further(result: FurtherResults | None, metrics: Sequence[str]) -> dict[str, float]:
    """A trial's further objectives and metrics."""
    if result is None:
        return {}
    values = dict(zip(metrics[1:], result.values, strict=False))
    return {**values, **{name: value for name, value in result.metrics.items() if name not in (*metrics, TRAIN_LOSS)}}


def _as_dict(trial: TrialSummary, titles: Mapping[str, str], metric: str) -> dict[str, Any]:
    trained_s = trial_facts(trial.attrs).train_seconds
    seconds = trial.seconds if trained_s is None else trained_s
    of_trial = {"study": trial.study, "number": trial.number, "state": trial.state, "seed": trial.seed}
    losses = {metric: trial.val_loss, "train_loss": trial.train_loss, "step": trial.step, "seconds": seconds}
    return {**of_trial, **{titles[name]: value for name, value in without_seed(trial.cell).items()}, **losses}
