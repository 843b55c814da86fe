"""The progress display while trials run: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from search.statistics.pareto import pareto_front
from search.storage.database import Database
from search.storage.left_out import OVER_BUDGET
from search.storage.metrics import FurtherResults, further_results
from search.storage.queries import TrialSummary, counts, study_attr, trial_summaries
from search.storage.schema import NOT_RUN
from search.storage.spending import BUDGET, Budget, spent_on
from search.storage.texts import error_text, printable
from search.streams import write_line
from search.study.budget import spent_text
from search.study.formatting import count_text, describe_cell, loss_text
from search.study.metrics import DEFAULT_METRICS, Metric
from search.study.stored import OPEN_QUESTIONS
from search.study.text_unit import TextUnit

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_INTERVAL_S = 30.0
ENDED = ("complete", "pruned", "diverged", "failed")
FAILED = ("diverged", "failed")
LEFT_OUT = (NOT_RUN, OVER_BUDGET)


class Snapshot:
    """The state of a study at one moment, and an estimate of the remaining time.

    Args:
        database: The database with the study.
        studies: The names of the study and its sibling.
        metrics: What ranks the trials.
        loss_unit: What their values are per; None unless they are losses of a language model.

    Attributes:
        ranked: The complete and feasible trials, the best first; of several objectives those on the Pareto front first.
        n_front: How many of them are on the Pareto front; None with one objective.
        total: The number of planned trials, without those that the objective left out with `trial.study.stop()`.
        questions: What a study with `seeds = "auto"` has not answered yet.
        spent: What is spent of the budget, as text; "" without one.
        done: The number of trials that have ended, with any outcome: those in `ended`.
    """

    def __init__(
        self,
        database: Database,
        studies: Sequence[str],
        metrics: Sequence[Metric] = DEFAULT_METRICS,
        loss_unit: TextUnit | None = None,
    ) -> None:
        self.metric, self._metrics, self._loss_unit = metrics[0], metrics, loss_unit
        before = counts(database, studies)
        # The first snapshot of a new study is taken before its workers start: it should take no time.
        has_begun = any(before.get(state) for state in ("running", *ENDED))
        self.running = trial_summaries(database, studies, ("running",)) if has_begun else []
        self.ended = trial_summaries(database, studies, ENDED) if has_begun else []
        self.total = sum(before.values()) - before.get(NOT_RUN, 0)
        self.done = len(self.ended)
        # Trials may have ended since the first query.
        ended = Counter(trial.state for trial in self.ended)
        unfinished = {state: count for state, count in before.items() if state not in ENDED}
        over_budget = before.get(OVER_BUDGET, 0)
        unfinished["running"] = max(0, self.total - self.done - unfinished["waiting"] - over_budget)
        self.counts = {NOT_RUN: 0, OVER_BUDGET: 0, **unfinished, **{state: ended[state] for state in ENDED}}
        self._further = further_results(database, studies, with_metrics=False) if self.ended else {}
        self.ranked, self.n_front = self._rank()
        self.best = self.ranked[0] if self.ranked else None
        open_questions = study_attr(database, studies[0], OPEN_QUESTIONS) if studies else None
        self.questions = [printable(each["text"], 200) for each in open_questions or ()]
        budget = Budget.of(study_attr(database, studies[0], BUDGET)) if studies else None
        self.spent = "" if budget is None else f"{spent_text(spent_on(database, studies), budget)} spent"

    def _rank(self) -> tuple[list[TrialSummary], int | None]:
        complete = [trial for trial in self.ended if trial.state == "complete" and trial.val_loss is not None]
        feasible = [trial for trial in complete if self._further_of(trial).is_feasible]
        points = [
            [metric.loss(value) for metric, value in zip(self._metrics, self.values(trial), strict=False)]
            for trial in feasible
        ]
        if len(self._metrics) == 1:
            return [feasible[at] for at in sorted(range(len(points)), key=points.__getitem__)], None
        # One that lacks a value cannot be compared.
        whole = [at for at, point in enumerate(points) if len(point) == len(self._metrics)]
        on_front = {at for at, yes in zip(whole, pareto_front([points[at] for at in whole]), strict=True) if yes}
        order = sorted(range(len(points)), key=lambda at: (at not in on_front, points[at][0]))
        return [feasible[at] for at in order], len(on_front)

    def _further_of(self, trial: TrialSummary) -> FurtherResults:
        return self._further.get((trial.study, trial.number), FurtherResults())

    def values(self, trial: TrialSummary) -> list[float]:
        """The value of each objective of a complete trial."""
        return [*([] if trial.val_loss is None else [trial.val_loss]), *self._further_of(trial).values]

    def value_text(self, trial: TrialSummary) -> str:
        """The value of a complete trial, a loss also in bits; with several objectives each one with its name."""
        if self.n_front is None:
            unit, loss = self._loss_unit, trial.val_loss
            bits = "" if unit is None or loss is None else f" = {loss_text(unit.as_bits(loss), 4)} {unit.short_bits}"
            return loss_text(loss, 4) + bits
        named = zip(self._metrics, self.values(trial), strict=False)
        return ", ".join(f"{printable(metric.name)} {loss_text(value, 4)}" for metric, value in named)

    def seconds_left(self, workers: int) -> float | None:
        """An estimate from the seconds that ended trials took; None before the first has ended.

        Nothing else is known to say how long a trial takes: not the values of its cell, and a step can be anything.
        """
        trained = [trial for trial in self.ended if trial.state in ("complete", "pruned")]
        measured = [trial.seconds for trial in trained if trial.seconds is not None]
        if not measured:
            return None
        # A running trial is half done on average.
        trials_left = self.counts["waiting"] + self.counts["running"] / 2
        return statistics.fmean(measured) * trials_left / max(1, workers)


class Progress(Protocol):
    """Something that shows snapshots."""

    def show(self, snapshot: Snapshot, workers: int) -> None:
        """Show the newest snapshot."""
        ...


class Silent:
    """Shows nothing."""

    def show(self, snapshot: Snapshot, workers: int) -> None:
        """Do nothing."""


class News:
    """Which trials have ended since the last snapshot; none at the first one, which shows what was there before."""

    def __init__(self) -> None:
        self._known: set[tuple[str, int]] | None = None

    def of(self, snapshot: Snapshot) -> list[tuple[int, TrialSummary]]:
        """The trials that have ended since the last call, each with how many have ended, this one included."""
        ended = {(trial.study, trial.number) for trial in snapshot.ended}
        before = ended if self._known is None else self._known
        self._known = ended
        new = [trial for trial in snapshot.ended if (trial.study, trial.number) not in before]
        return list(enumerate(new, start=snapshot.done - len(new) + 1))


def end_line(trial: TrialSummary, done: int, snapshot: Snapshot) -> str:
    """How a trial ended, in one line.

    Args:
        done: How many trials have ended, this one included.
    """
    if trial.state == "complete" and snapshot.n_front is not None:
        loss = f" {snapshot.value_text(trial)}"
    else:
        loss = "" if trial.val_loss is None else f" {snapshot.metric.name} {loss_text(trial.val_loss, 4)}"
    took = "" if trial.seconds is None else f" in {trial.seconds:.0f} s"
    why = f": {printable(trial.reason, 500)}" if trial.reason and trial.state in FAILED else ""
    return f"[{done}/{snapshot.total}] {trial.state}{loss}  {describe_cell(trial.shown_cell)}{took}{why}"


class PlainLines:
    """A line for each trial that ends, and a summary at intervals; for log files and notebooks."""

    def __init__(self) -> None:
        self._news = News()
        self._summary_at = -math.inf
        self._questions: list[str] = []

    def show(self, snapshot: Snapshot, workers: int) -> None:
        """Print what is new."""
        new = self._news.of(snapshot)
        for done, trial in new:
            write_line(end_line(trial, done, snapshot), sys.stderr)
        if snapshot.questions != self._questions:
            self._questions = snapshot.questions
            write_line(questions_line(snapshot), sys.stderr)
        if new or time.monotonic() - self._summary_at > PLAIN_INTERVAL_S:
            write_line(summary_line(snapshot, workers), sys.stderr)
            self._summary_at = time.monotonic()


class Harmless:
    """Shows what another display shows; an error in it, such as a terminal that is gone, ends the display alone."""

    def __init__(self, display: Progress) -> None:
        self._display = display

    def show(self, snapshot: Snapshot, workers: int) -> None:
        """Show the newest snapshot if that is possible."""
        try:
            self._display.show(snapshot, workers)
        except Exception as error:
            logging.getLogger("search").warning("no progress is shown any more: %s", error_text(error))
            self._display = Silent()


def progress_display(quiet: bool, name: str, max_steps: int) -> AbstractContextManager[Progress]:
    """The display that suits a notebook, or stderr.

    Args:
        name: The study's name.
        max_steps: The number of steps of a trial that is not stopped early.
    """
    if quiet:
        return nullcontext(Silent())
    if "IPython" in sys.modules:
        from search.reporting.notebook import NotebookDisplay, is_notebook

        if is_notebook():
            return nullcontext(Harmless(NotebookDisplay(name)))
    if sys.stderr is not None and sys.stderr.isatty():
        from rich.console import Console  # slow to import

        if not (console := Console(stderr=True)).is_dumb_terminal:
            return _live(console, name, max_steps)
    return nullcontext(Harmless(PlainLines()))


@contextmanager
def _live(console: Console, name: str, max_steps: int) -> Iterator[Progress]:
    from search.reporting.live_display import LiveDisplay, live_on

    with live_on(console) as live:
        yield Harmless(LiveDisplay(live, name, max_steps))


def summary_line(snapshot: Snapshot, workers: int) -> str:
    """Totals, the best trial so far or how many are on the Pareto front, and the remaining time, in one line."""
    parts = [f"{snapshot.done}/{snapshot.total} done"]
    parts += [f"{snapshot.counts[state]} {state}" for state in ("running", *ENDED, *LEFT_OUT) if snapshot.counts[state]]
    if snapshot.n_front is not None:
        parts += [f"{count_text(snapshot.n_front, 'trial')} on the Pareto front"] if snapshot.n_front else []
    elif snapshot.best is not None:
        parts.append(f"best {snapshot.value_text(snapshot.best)} ({describe_cell(snapshot.best.shown_cell)})")
    return "; ".join([*parts, *filter(None, [snapshot.spent, time_left(snapshot, workers)])])


def questions_line(snapshot: Snapshot) -> str:
    """Which questions of a study with `seeds = "auto"` are open, in one line."""
    if not snapshot.questions:
        return "all questions are answered"
    return f"open: {'; '.join(each.rstrip('.') for each in snapshot.questions)}"


def time_left(snapshot: Snapshot, workers: int) -> str:
    """The remaining time as text, "" if nothing is known or left."""
    left = snapshot.seconds_left(workers)
    return "" if not left or snapshot.done == snapshot.total else f"about {_duration(left)} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
