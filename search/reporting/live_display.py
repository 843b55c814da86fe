"""The display of a run on a terminal: bars, the best trials so far, and what has ended above them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.reporting.progress import FAILED, LEFT_OUT, News, Snapshot, end_line, questions_line, time_left
from search.storage.queries import TrialSummary
from search.storage.texts import printable
from search.study.formatting import describe_cell, loss_text

BEST = 5
# More trials than this that end between two snapshots are only counted.
MAX_NEWS = 20
STUDY_BAR, WORKER_BAR = 24, 12
# Lines of the display besides those of workers.
OTHER_LINES = BEST + 6


@contextmanager
def live_on(console: Console) -> Iterator[Live]:
    """A part of the terminal that is redrawn, below everything else that is printed meanwhile.

    Args:
        console: A terminal.
    """
    live = Live(console=console, transient=True, auto_refresh=False)
    terminal = sys.stderr
    live.start()  # sys.stdout and sys.stderr now print above the display
    handlers = _handlers_on(terminal)
    for handler in handlers:
        handler.setStream(sys.stderr)
    try:
        yield live
    finally:
        with suppress(OSError, ValueError):  # the terminal may be gone
            live.stop()
        for handler in handlers:
            handler.setStream(terminal)


def _handlers_on(stream: object) -> set[logging.StreamHandler[Any]]:
    named = [each for each in logging.Logger.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    handlers = [handler for each in (logging.getLogger(), *named) for handler in each.handlers]
    return {each for each in handlers if isinstance(each, logging.StreamHandler) and each.stream is stream}


class LiveDisplay:
    """Bars of the study and its workers, the best trials, and the last one that was pruned or failed.

    Args:
        name: The study's name.
        max_steps: The number of steps of a trial that is not stopped early.
    """

    def __init__(self, live: Live, name: str, max_steps: int) -> None:
        self._live, self._name, self._max_steps = live, name, max(1, max_steps)
        self._news = News()
        self._last: dict[str, TrialSummary] = {}

    def show(self, snapshot: Snapshot, workers: int) -> None:
        """Print what has ended, and redraw."""
        new = self._news.of(snapshot)
        skipped = max(0, len(new) - MAX_NEWS)
        if skipped:
            self._live.console.print(Text(f"… {skipped} more have ended"))
        for done, trial in new[skipped:]:
            is_failed = trial.state in FAILED
            # rich reads a plain string as markup, and "[/x]" in it as an error.
            line = Text(end_line(trial, done, snapshot), style="red" if is_failed else "")
            self._live.console.print(line, no_wrap=not is_failed, overflow=None if is_failed else "ellipsis")
        for _, trial in new:
            if trial.state != "complete":
                self._last["failed" if trial.state in FAILED else "pruned"] = trial
        parts = [self._study(snapshot, workers), self._workers(snapshot), self._best(snapshot), *self._lasts()]
        if snapshot.spent:
            parts.append(Text(f"budget: {snapshot.spent}", style="dim"))
        if snapshot.questions:
            parts.append(Text(questions_line(snapshot), style="dim"))
        self._live.update(Group(*parts), refresh=True)

    def _study(self, snapshot: Snapshot, workers: int) -> RenderableType:
        table = _grid(4)
        bar = ProgressBar(total=max(1, snapshot.total), completed=snapshot.done, width=STUDY_BAR)
        states = ", ".join(
            f"{snapshot.counts[each]} {each}" for each in ("pruned", *FAILED, *LEFT_OUT) if snapshot.counts[each]
        )
        done = f"{snapshot.done}/{snapshot.total} done" + (f" ({states})" if states else "")
        table.add_row(Text(self._name, style="bold"), bar, Text(done), Text(time_left(snapshot, workers)))
        return table

    def _workers(self, snapshot: Snapshot) -> RenderableType:
        table = _grid(5)
        fitting = max(1, self._live.console.height - OTHER_LINES)
        for trial in snapshot.running[:fitting]:
            label = (trial.owner or "").rsplit("/", 1)[0].rpartition("/")[2]
            bar = ProgressBar(total=self._max_steps, completed=min(trial.step or 0, self._max_steps), width=WORKER_BAR)
            at = "no step yet" if trial.step is None else f"step {trial.step}"
            texts = (at, loss_text(trial.val_loss, 4), describe_cell(trial.shown_cell))
            table.add_row(Text(label), bar, *map(Text, texts))
        if (more := len(snapshot.running) - fitting) > 0:
            table.add_row(Text(f"… {more} more"))
        return table

    def _best(self, snapshot: Snapshot) -> RenderableType:
        table = _grid(2)
        n_front = snapshot.n_front
        # A dominated trial is nowhere the best.
        for rank, trial in enumerate(snapshot.ranked[: BEST if n_front is None else min(BEST, n_front)]):
            title = "best" if n_front is None else f"front ({n_front})"
            text = f"{snapshot.value_text(trial)}  {describe_cell(trial.shown_cell)}"
            table.add_row(Text(title if rank == 0 else ""), Text(text))
        return table

    def _lasts(self) -> Iterator[RenderableType]:
        for kind, trial in self._last.items():
            why = f": {printable(trial.reason, 200)}" if trial.reason else ""
            table = _grid(1)
            table.add_row(Text(f"last {kind}  {describe_cell(trial.shown_cell)}{why}"))
            yield table


def _grid(columns: int) -> Table:
    """A table whose last column gets what the others leave of the terminal's width."""
    table = Table.grid(padding=(0, 2), expand=True)
    for at in range(columns):
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1 if at == columns - 1 else None)
    return table
