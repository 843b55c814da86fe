"""Feeds trackers from the database, so that they hear of trials on any machine and of those of earlier runs."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from search.storage.database import Database
from search.storage.tracking_queries import TrackedTrial, trials_with_news
from search.trackers.protocol import EndEvent, EvaluationEvent, Event, Tracker, TrialName

log = logging.getLogger("search")

EVERY_S = 2.0
# It must neither wait long for a database that is away, nor hold up the end of a run.
OUTAGE_S = 2.0
LAST_WAIT_S = 30.0


@dataclass
class _Fed:
    """A tracker, and what it has not taken in yet."""

    text: str
    tracker: Tracker
    pending: deque[Event] = field(default_factory=deque)
    warned: bool = False

    def deliver(self) -> None:
        while self.pending:
            try:
                self.tracker.track(self.pending[0])
            except Exception as error:  # whatever a tracker does, training goes on
                self._warn(error)
                return
            self.pending.popleft()

    def _warn(self, error: Exception) -> None:
        if not self.warned:
            fault = f"{type(error).__name__}: {error}".splitlines()[0]
            log.warning("--track %s: %s; training goes on, and its events are delivered again later", self.text, fault)
        self.warned = True

    def close(self) -> None:
        if self.pending:
            log.warning(
                "--track %s: %d events were not delivered; the same command started again delivers them",
                self.text,
                len(self.pending),
            )
        try:
            self.tracker.close()
        except Exception as error:
            self._warn(error)


class TrackingFeed:
    """Reads what is new of some studies, and hands it to trackers.

    Args:
        studies: The study's name, and that of its sibling with the baselines if there is one.
        trackers: By their text on the command line.
    """

    def __init__(self, database: Database, studies: Sequence[str], trackers: Mapping[str, Tracker]) -> None:
        self._database, self._studies = database, studies
        self._fed = [_Fed(text, tracker) for text, tracker in trackers.items()]
        self._seen: set[str] = set()
        self._since = 0.0

    def poll(self) -> None:
        """Deliver what has happened since the last call; at the first call, everything.

        Raises:
            StorageUnavailable: The database is away; nothing is lost.
        """
        for trial in trials_with_news(self._database, self._studies, self._since):
            self._since = max(self._since, trial.ended_at or 0.0)
            for event in events_of(trial):
                if event.key not in self._seen:
                    self._seen.add(event.key)
                    for fed in self._fed:
                        fed.pending.append(event)
        for fed in self._fed:
            fed.deliver()

    def close(self) -> None:
        """Close the trackers, and say what one of them has missed."""
        for fed in self._fed:
            fed.close()


def events_of(trial: TrackedTrial) -> Iterator[Event]:
    """What is known to have happened to a trial, in order."""
    name = TrialName(trial.study, trial.uid, trial.number, trial.cell, trial.seed)
    for step, value in trial.curve.items():
        yield EvaluationEvent(name, step, {"val_loss": value})
    if trial.outcome is not None:
        last = max(trial.curve, default=None)
        metrics = {} if last is None else {"val_loss": trial.curve[last]}
        if trial.train_loss is not None and math.isfinite(trial.train_loss):
            metrics["train_loss"] = trial.train_loss
        yield EndEvent(name, trial.claim, trial.outcome, trial.reason, last, metrics)


@contextmanager
def tracking(database: Database, studies: Sequence[str], trackers: Mapping[str, Tracker]) -> Iterator[None]:
    """Feed trackers as long as the context lasts, and with what is left at its end.

    Args:
        database: Used from a thread of its own.
        studies, trackers: As for `TrackingFeed`.
    """
    if not trackers:
        yield
        return
    feed = TrackingFeed(replace(database, outage_s=OUTAGE_S), studies, trackers)
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(EVERY_S):
            _poll(feed)
        _poll(feed)
        feed.close()

    thread = threading.Thread(target=work, name="tracking", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(LAST_WAIT_S)
        if thread.is_alive():
            log.warning("--track: a tracker did not answer for %g s; the same command delivers the rest", LAST_WAIT_S)


def _poll(feed: TrackingFeed) -> None:
    try:
        feed.poll()
    except Exception as error:  # the database is away: the next look reads what this one missed
        log.info("trackers were not fed: %s", error)
