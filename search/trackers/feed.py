"""Feeds trackers from the database, so that they receive trials of any machine and of earlier runs."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from search.storage.database import Database
from search.storage.texts import error_text, printable
from search.storage.tracking_queries import TrackedTrial, trials_with_news
from search.study.metrics import DEFAULT_METRICS, Metric
from search.study.stored import read_stored_study
from search.trackers.protocol import EndEvent, EvaluationEvent, Event, Tracker, TrackerError, TrialName
from search.trackers.registry import shown

log = logging.getLogger("search")

EVERY_S = 2.0
# Short, so that an unavailable database does not delay the end of a run.
OUTAGE_S = 2.0
LAST_WAIT_S = 30.0


@dataclass
class TrackerQueue:
    """A tracker, and the events that it has not received yet."""

    text: str
    tracker: Tracker
    pending: deque[Event] = field(default_factory=deque)
    warned: bool = False

    def deliver(self) -> None:
        """Send the events until there are no more, or the tracker does not take one."""
        while self.pending:
            try:
                self.tracker.track(self.pending[0])
            except (Exception, SystemExit) as error:  # no error of a tracker may stop the training
                self._warn(error)
                return
            self.pending.popleft()

    def _warn(self, error: BaseException) -> None:
        if not self.warned:
            reason = reason_of(error)
            log.warning("--track %s: %s; training continues, and the events are delivered later", self.text, reason)
        self.warned = True

    def close(self) -> None:
        """Close the tracker, and log how many events it has missed."""
        if self.pending:
            log.warning(
                "--track %s: %d events were not delivered; start the same command again to deliver them",
                self.text,
                len(self.pending),
            )
        try:
            self.tracker.close()
        except (Exception, SystemExit) as error:
            self._warn(error)


def reason_of(error: BaseException) -> str:
    """Why a tracker did not take an event, without the passwords in URLs."""
    text = printable(str(error), 500) if isinstance(error, TrackerError) else error_text(error)
    return re.sub(r"://[^/\s]*@", "://***@", text)


class TrackingFeed:
    """Reads new events of some studies and delivers them to trackers.

    Args:
        database: The database of the studies.
        studies: The name of the study, and of its sibling with the baselines if there is one.
        trackers: The trackers by their text on the command line.
    """

    def __init__(self, database: Database, studies: Sequence[str], trackers: Mapping[str, Tracker]) -> None:
        self._database, self._studies = database, studies
        self._queues = [TrackerQueue(shown(text), tracker) for text, tracker in trackers.items()]
        self._seen: set[str] = set()
        self._since = 0.0
        self._metrics: dict[str, Sequence[Metric]] = {}
        self._has_polled = False

    @property
    def queues(self) -> Sequence[TrackerQueue]:
        """The trackers, each with the events that it has not received yet."""
        return self._queues

    def poll(self) -> None:
        """Read and deliver all events since the last call; at the first call, every event.

        Raises:
            StorageUnavailable: The database is unavailable; the next call delivers the events.
        """
        self.read()
        for queue in self._queues:
            queue.deliver()

    def read(self) -> None:
        """Give the queues all events since the last call; at the first call, every event.

        Raises:
            StorageUnavailable: The database is unavailable; the next call reads the events.
        """
        for trial in trials_with_news(self._database, self._studies, self._since):
            self._since = max(self._since, trial.ended_at or 0.0)
            for event in events_of(trial, self._metrics_of(trial.study)):
                if event.key not in self._seen:
                    self._seen.add(event.key)
                    for queue in self._queues:
                        queue.pending.append(replace(event, is_earlier=not self._has_polled))
        self._has_polled = True

    def _metrics_of(self, study: str) -> Sequence[Metric]:
        if study not in self._metrics:
            self._metrics[study] = metrics_of(self._database, study)
        return self._metrics[study]

    def close(self) -> None:
        """Close the trackers, and log how many events each has missed."""
        for queue in self._queues:
            queue.close()


def metrics_of(database: Database, study: str) -> Sequence[Metric]:
    """The metrics of a study."""
    stored = read_stored_study(database, study)
    return stored.definition.metrics if stored else DEFAULT_METRICS


def events_of(trial: TrackedTrial, ranked: Sequence[Metric] = DEFAULT_METRICS) -> Iterator[Event]:
    """Yield the events of a trial, in order.

    Args:
        ranked: The study's metrics.
    """
    names = [metric.name for metric in ranked]
    name = TrialName(trial.study, trial.uid, trial.number, trial.cell, trial.seed, trial.started_at)
    for step in sorted({*trial.curve, *trial.metrics}):
        value = {names[0]: trial.curve[step]} if step in trial.curve else {}
        if metrics := {**trial.metrics.get(step, {}), **value}:
            yield EvaluationEvent(name, step, metrics)
    if trial.outcome is not None:
        last = max(trial.curve, default=None)
        metrics = {name: value for each in trial.metrics.values() for name, value in each.items()}
        metrics |= {} if last is None else {names[0]: trial.curve[last]}
        if trial.train_loss is not None and math.isfinite(trial.train_loss):
            metrics["train_loss"] = trial.train_loss
        metrics |= {name: value for name, value in zip(names, trial.values, strict=False) if value is not None}
        first = trial.values[0] if trial.values else None
        loss = None if first is None or not math.isfinite(first) else ranked[0].loss(first)
        reason, sample, ended_at = trial.reason, trial.sample, trial.ended_at
        yield EndEvent(name, trial.claim, trial.outcome, reason, last, metrics, loss, sample, ended_at)


@contextmanager
def tracking(database: Database, studies: Sequence[str], trackers: Mapping[str, Tracker]) -> Iterator[None]:
    """Feed trackers during the context, and deliver the remaining events at its end.

    Args:
        database: The database of the studies.
        studies, trackers: See `TrackingFeed`. One thread reads; each tracker has its own: none waits for a slow one.
    """
    feed = TrackingFeed(replace(database, outage_s=OUTAGE_S, waits_when_full=False), studies, trackers)
    ended, has_read = threading.Event(), threading.Event()
    if feed.queues:
        _read(feed)  # before any worker starts: what it finds counts as earlier, and nothing else does

    def read() -> None:
        while not ended.wait(EVERY_S):
            _read(feed)
        _read(feed)
        has_read.set()

    def deliver(queue: TrackerQueue) -> None:
        while not has_read.wait(EVERY_S):
            queue.deliver()
        queue.deliver()
        queue.close()

    deliveries = [
        (queue, threading.Thread(target=deliver, args=(queue,), name="tracking", daemon=True)) for queue in feed.queues
    ]
    reader = [threading.Thread(target=read, name="tracking", daemon=True)] if deliveries else []
    for thread in [*reader, *(thread for _, thread in deliveries)]:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        until = time.monotonic() + LAST_WAIT_S
        for queue, thread in deliveries:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                log.warning(
                    "--track %s: no answer for %g s; start the same command again to deliver the rest",
                    queue.text,
                    LAST_WAIT_S,
                )


def _read(feed: TrackingFeed) -> None:
    try:
        feed.read()
    except Exception as error:  # such as an unavailable database: the next call reads what this one missed
        log.info("cannot feed the trackers: %s", error)
