"""The progress display while trials run: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.storage.database import Database
from search.storage.queries import TrialSummary, counts, trial_summaries
from search.study.formatting import describe_cell, loss_text

PLAIN_INTERVAL_S = 30.0
ENDED = ("complete", "pruned", "diverged", "failed")


class Snapshot:
    """The state of a study at one moment, and an estimate of the remaining time.

    Args:
        database: The database with the study.
        studies: The names of the study and its sibling.
    """

    def __init__(self, database: Database, studies: Sequence[str]) -> None:
        self.counts = counts(database, studies)
        self.running = trial_summaries(database, studies, ("running",))
        self._waiting = trial_summaries(database, studies, ("waiting",))
        self.ended = trial_summaries(database, studies, ENDED)
        complete = [trial for trial in self.ended if trial.state == "complete" and trial.val_loss is not None]
        self.best = min(complete, key=lambda trial: trial.val_loss or math.inf, default=None)

    @property
    def total(self) -> int:
        """The number of planned trials."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """The number of trials that have ended, with any outcome."""
        return sum(self.counts[state] for state in ENDED)

    def seconds_left(self, workers: int, max_steps: int) -> float | None:
        """An estimate from the times of ended trials and the sizes of cells; None before the first has ended."""
        trained = [trial for trial in self.ended if trial.state in ("complete", "pruned")]
        timed = [trial for trial in trained if trial.seconds and trial.step]
        if not timed:
            return None
        # Seconds per step are about a constant plus a term proportional to width times context length.
        pace = sum(trial.seconds or 0 for trial in timed) / sum(_size(trial) * (trial.step or 0) for trial in timed)
        steps = [(trial, max_steps - (trial.step or 0)) for trial in self.running]
        steps += [(trial, max_steps) for trial in self._waiting]
        return sum(pace * _size(trial) * left for trial, left in steps) / max(1, workers)


def _size(trial: TrialSummary) -> float:
    numbers = [value for name, value in trial.cell.items() if name != "seed" and isinstance(value, int)]
    return 2_000.0 + math.prod(numbers)


class Progress(Protocol):
    """Something that shows snapshots."""

    def show(self, snapshot: Snapshot, workers: int) -> None:
        """Show the newest snapshot."""
        ...


class Silent:
    """Shows nothing."""

    def show(self, snapshot: Snapshot, workers: int) -> None:
        """Do nothing."""


class PlainLines:
    """A line for each trial that ends, and a summary at intervals; for log files."""

    def __init__(self, max_steps: int) -> None:
        self._max_steps = max_steps
        self._printed: set[tuple[str, int]] | None = None
        self._summary_at = -math.inf

    def show(self, snapshot: Snapshot, workers: int) -> None:
        """Print what is new."""
        ended = {(trial.study, trial.number) for trial in snapshot.ended}
        before = ended if self._printed is None else self._printed
        new = [trial for trial in snapshot.ended if (trial.study, trial.number) not in before]
        self._printed = ended
        for done, trial in enumerate(new, start=len(ended) - len(new) + 1):
            loss = "" if trial.val_loss is None else f" val_loss {loss_text(trial.val_loss, 4)}"
            took = "" if trial.seconds is None else f" in {trial.seconds:.0f} s"
            why = f": {trial.reason}" if trial.reason and trial.state in ("failed", "diverged") else ""
            print(
                f"[{done}/{snapshot.total}] {trial.state}{loss}  {describe_cell(trial.cell)}{took}{why}",
                file=sys.stderr,
                flush=True,
            )
        if new or time.monotonic() - self._summary_at > PLAIN_INTERVAL_S:
            print(summary_line(snapshot, workers, self._max_steps), file=sys.stderr, flush=True)
            self._summary_at = time.monotonic()


class LiveDisplay:
    """A table of the workers and a line of totals, redrawn in place."""

    def __init__(self, live: Live, max_steps: int) -> None:
        self._live, self._max_steps = live, max_steps

    def show(self, snapshot: Snapshot, workers: int) -> None:
        """Redraw."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("worker", "cell", "step", "train_loss", "val_loss"):
            table.add_column(title, justify="left" if title in ("worker", "cell") else "right")
        for trial in snapshot.running:
            label = (trial.owner or "").rsplit("/", 1)[0]
            losses = [loss_text(loss, 4) for loss in (trial.train_loss, trial.val_loss)]
            table.add_row(label, describe_cell(trial.cell), str(trial.step if trial.step is not None else ""), *losses)
        self._live.update(Group(table, Text(summary_line(snapshot, workers, self._max_steps))), refresh=True)


def progress_display(quiet: bool, max_steps: int) -> AbstractContextManager[Progress]:
    """The display that suits stderr."""
    if quiet:
        return nullcontext(Silent())
    if not sys.stderr.isatty():
        return nullcontext(PlainLines(max_steps))
    return _LiveContext(max_steps)


class _LiveContext(AbstractContextManager[Progress]):
    def __init__(self, max_steps: int) -> None:
        self._live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)
        self._display = LiveDisplay(self._live, max_steps)

    def __enter__(self) -> Progress:
        self._live.start()
        return self._display

    def __exit__(self, *_: Any) -> None:
        self._live.stop()


def summary_line(snapshot: Snapshot, workers: int, max_steps: int) -> str:
    """Totals, the best trial so far and the remaining time, in one line."""
    parts = [f"{snapshot.done}/{snapshot.total} done"]
    parts += [f"{snapshot.counts[state]} {state}" for state in ("running", *ENDED) if snapshot.counts[state]]
    if snapshot.best is not None:
        parts.append(f"best {loss_text(snapshot.best.val_loss, 4)} ({describe_cell(snapshot.best.cell)})")
    left = snapshot.seconds_left(workers, max_steps)
    if left is not None and snapshot.done < snapshot.total:
        parts.append(f"about {_duration(left)} left")
    return "; ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
