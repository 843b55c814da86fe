"""What a person sees while trials run: a live display on a terminal, plain lines elsewhere."""

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
    """The state of a study at one moment, and what it says about the rest.

    Args:
        database: Where the study is.
        studies: The study and its sibling.
    """

    def __init__(self, database: Database, studies: Sequence[str]) -> None:
        self.counts = counts(database, studies)
        self.running = trial_summaries(database, studies, ("running",))
        self._waiting = trial_summaries(database, studies, ("waiting",))
        self.ended = trial_summaries(database, studies, ENDED)
        complete = [run for run in self.ended if run.state == "complete" and run.val_loss is not None]
        self.best = min(complete, key=lambda run: run.val_loss or math.inf, default=None)

    @property
    def total(self) -> int:
        """All planned trials."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """Trials that have ended, however."""
        return sum(self.counts[state] for state in ENDED)

    def seconds_left(self, workers: int, max_steps: int) -> float | None:
        """An estimate from what trials of the same size took; None before the first has ended."""
        timed = [run for run in self.ended if run.seconds and run.step and run.state in ("complete", "pruned")]
        if not timed:
            return None
        # Seconds a step grow about with width times context length, above a floor.
        pace = sum(run.seconds or 0 for run in timed) / sum(_size(run) * (run.step or 0) for run in timed)
        steps = [(run, max_steps - (run.step or 0)) for run in self.running] + [(r, max_steps) for r in self._waiting]
        return sum(pace * _size(run) * left for run, left in steps) / max(1, workers)


def _size(run: TrialSummary) -> float:
    numbers = [value for name, value in run.cell.items() if name != "seed" and isinstance(value, int)]
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
    """A line whenever a trial ends, and one now and then in between; for log files."""

    def __init__(self, max_steps: int) -> None:
        self._max_steps = max_steps
        self._told: set[tuple[str, int]] | None = None
        self._spoke_at = -math.inf

    def show(self, snapshot: Snapshot, workers: int) -> None:
        """Print what is new."""
        ended = {(run.study, run.number) for run in snapshot.ended}
        news = [] if self._told is None else [r for r in snapshot.ended if (r.study, r.number) not in self._told]
        self._told = ended
        for done, run in enumerate(news, start=len(ended) - len(news) + 1):
            loss = "" if run.val_loss is None else f" val_loss {loss_text(run.val_loss, 4)}"
            took = "" if run.seconds is None else f" in {run.seconds:.0f} s"
            why = f": {run.reason}" if run.reason and run.state in ("failed", "diverged") else ""
            print(
                f"[{done}/{snapshot.total}] {run.state}{loss}  {describe_cell(run.cell)}{took}{why}",
                file=sys.stderr,
                flush=True,
            )
        if news or time.monotonic() - self._spoke_at > PLAIN_INTERVAL_S:
            print(summary_line(snapshot, workers, self._max_steps), file=sys.stderr, flush=True)
            self._spoke_at = time.monotonic()


class LiveDisplay:
    """A table of the workers and a line of totals, redrawn in place."""

    def __init__(self, live: Live, max_steps: int) -> None:
        self._live, self._max_steps = live, max_steps

    def show(self, snapshot: Snapshot, workers: int) -> None:
        """Redraw."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("worker", "cell", "step", "train_loss", "val_loss"):
            table.add_column(title, justify="left" if title in ("worker", "cell") else "right")
        for run in snapshot.running:
            label = (run.owner or "").rsplit("/", 1)[0]
            losses = [loss_text(loss, 4) for loss in (run.train_loss, run.val_loss)]
            table.add_row(label, describe_cell(run.cell), str(run.step if run.step is not None else ""), *losses)
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
    """Totals, the best so far and the time left, in one line."""
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
