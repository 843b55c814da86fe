"""Sends everything that has happened in some studies to a tracker, at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from rich.console import Console
from rich.progress import Progress

from search.errors import UsageError
from search.storage.database import Database
from search.storage.tracking_queries import trials_with_news
from search.trackers.feed import events_of, metrics_of, reason_of
from search.trackers.protocol import Tracker


def backfill(database: Database, studies: Sequence[str], named: str, tracker: Tracker) -> int:
    """Send all events of studies to a tracker, and close it; a terminal shows the progress.

    Args:
        named: What messages call the tracker.

    Returns:
        The number of events.

    Raises:
        UsageError: The tracker does not take an event; the message says how many it took before.
    """
    metrics = {study: metrics_of(database, study) for study in studies}
    trials = trials_with_news(database, studies, 0.0)
    events = [event for trial in trials for event in events_of(trial, metrics[trial.study])]
    sent = 0
    try:
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(named, total=len(events))
            for event in events:
                tracker.track(replace(event, is_earlier=True))
                sent += 1
                progress.advance(task)
        tracker.close()
    except (Exception, SystemExit) as error:
        with suppress(Exception, SystemExit):
            tracker.close()
        raise UsageError(
            f"{named}: {reason_of(error)}; {sent} of {len(events)} events were sent; "
            "start the same command again to send the rest"
        ) from error
    return sent
