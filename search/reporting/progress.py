"""The progress display while trials run: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import math
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.storage.database import Database
from search.storage.queries import counts, trial_summaries
from search.storage.texts import error_text, printable
from search.streams import write_line
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
        self.ended = trial_summaries(database, studies, ENDED)
        complete = [(trial.val_loss, trial) for trial in self.ended if trial.state == "complete"]
        losses = [(loss, trial) for loss, trial in complete if loss is not None]
        self.best = min(losses, key=lambda each: each[0], default=(None, None))[1]

    @property
    def total(self) -> int:
        """The number of planned trials."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """The number of trials that have ended, with any outcome."""
        return sum(self.counts[state] for state in ENDED)

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


class PlainLines:
    """A line for each trial that ends, and a summary at intervals; for log files."""

    def __init__(self) -> None:
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
            why = f": {printable(trial.reason, 500)}" if trial.reason and trial.state in ("failed", "diverged") else ""
            line = f"[{done}/{snapshot.total}] {trial.state}{loss}  {describe_cell(trial.cell)}{took}{why}"
            write_line(line, sys.stderr)
        if new or time.monotonic() - self._summary_at > PLAIN_INTERVAL_S:
            write_line(summary_line(snapshot, workers), sys.stderr)
            self._summary_at = time.monotonic()


class LiveDisplay:
    """A table of the workers and a line of totals, redrawn in place."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, snapshot: Snapshot, workers: int) -> None:
        """Redraw."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("worker", "cell", "step", "train_loss", "val_loss"):
            table.add_column(title, justify="left" if title in ("worker", "cell") else "right")
        for trial in snapshot.running:
            label = (trial.owner or "").rsplit("/", 1)[0]
            step = "" if trial.step is None else str(trial.step)
            losses = [loss_text(loss, 4) for loss in (trial.train_loss, trial.val_loss)]
            # rich reads a plain string as markup, and "[/x]" in it as an error.
            table.add_row(*map(Text, (label, describe_cell(trial.cell), step, *losses)))
        self._live.update(Group(table, Text(summary_line(snapshot, workers))), refresh=True)


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


def progress_display(quiet: bool) -> AbstractContextManager[Progress]:
    """The display that suits stderr."""
    if quiet:
        return nullcontext(Silent())
    if sys.stderr is None or not sys.stderr.isatty():
        return nullcontext(Harmless(PlainLines()))
    return _LiveContext()


class _LiveContext(AbstractContextManager[Progress]):
    def __init__(self) -> None:
        self._live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)
        self._display = Harmless(LiveDisplay(self._live))

    def __enter__(self) -> Progress:
        self._live.start()
        return self._display

    def __exit__(self, *_: Any) -> None:
        with suppress(OSError, ValueError):  # the terminal may be gone
            self._live.stop()


def summary_line(snapshot: Snapshot, workers: int) -> str:
    """Totals, the best trial so far and the remaining time, in one line."""
    parts = [f"{snapshot.done}/{snapshot.total} done"]
    parts += [f"{snapshot.counts[state]} {state}" for state in ("running", *ENDED) if snapshot.counts[state]]
    if snapshot.best is not None:
        parts.append(f"best {loss_text(snapshot.best.val_loss, 4)} ({describe_cell(snapshot.best.cell)})")
    left = snapshot.seconds_left(workers)
    if left is not None and snapshot.done < snapshot.total:
        parts.append(f"about {_duration(left)} left")
    return "; ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
