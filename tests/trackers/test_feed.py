"""What trackers receive of a study: every event, in order, from any worker and after any number of restarts."""

from __future__ import annotations

import json
import logging
import math
import threading
from pathlib import Path
from typing import Any

import pytest
from gates import wait_until
from sample_study import STUDY
from tracked import evaluate

from search.errors import UsageError
from search.storage.database import Database
from search.storage.queue import TrialQueue
from search.trackers import feed as feeding
from search.trackers.feed import TrackingFeed, tracking
from search.trackers.jsonl import JsonLinesTracker
from search.trackers.protocol import EndEvent, EvaluationEvent, Event, TrackerError, TrialName
from search.trackers.registry import make_trackers


class ListTracker:
    """Keeps what it is given; fails while `broken`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.broken = self.closed = False

    def track(self, event: Event) -> None:
        if self.broken:
            raise ConnectionError("no answer")
        self.events.append(event)

    def close(self) -> None:
        self.closed = True


def shown(events: list[Event]) -> list[Any]:
    return [
        (
            event.trial.number,
            event.outcome if isinstance(event, EndEvent) else event.step,
            event.metrics.get("val_loss"),
        )
        for event in events
    ]


def test_each_event_once_and_in_order(database: Database, queue: TrialQueue) -> None:
    tracker = ListTracker()
    feed = TrackingFeed(database, [STUDY], {"mine": tracker})
    feed.poll()
    assert tracker.events == []
    first, second = queue.claim([STUDY], "ann", limit=2)
    evaluate(queue, first, 0, 4.0)
    feed.poll()
    evaluate(queue, first, 500, 3.0)
    evaluate(queue, second, 0, 4.5)
    queue.finish(first, "complete", 3.0)
    for _ in range(3):
        feed.poll()
    assert shown(tracker.events) == [(0, 0, 4.0), (0, 500, 3.0), (0, "complete", 3.0), (1, 0, 4.5)]
    assert tracker.events[2].metrics == {"val_loss": 3.0, "train_loss": 2.9}
    assert tracker.events[0].trial.cell == {"block_size": 8, "n_embd": 64, "pe_type": "randn"}
    assert tracker.events[0].trial.seed == 1337
    # What a worker reported before it handed its trial back is heard too.
    evaluate(queue, second, 500, 4.0)
    queue.release(second)
    feed.poll()
    assert shown(tracker.events)[4:] == [(1, 500, 4.0)]


def test_after_a_restart_all_come_again_with_the_same_keys(database: Database, queue: TrialQueue) -> None:
    [lease] = queue.claim([STUDY], "ann")
    evaluate(queue, lease, 0, 4.0)
    queue.finish(lease, "complete", 4.0)
    before, after = ListTracker(), ListTracker()
    TrackingFeed(database, [STUDY], {"mine": before}).poll()
    TrackingFeed(database, [STUDY], {"mine": after}).poll()
    assert [event.key for event in before.events] == [event.key for event in after.events]
    assert len({event.key for event in before.events}) == 2


def test_a_failed_trial_that_is_put_back_ends_twice(database: Database, queue: TrialQueue) -> None:
    tracker = ListTracker()
    feed = TrackingFeed(database, [STUDY], {"mine": tracker})
    [lease] = queue.claim([STUDY], "ann")
    queue.finish(lease, "failed", None, reason="made up")
    feed.poll()
    queue.retry_failed([STUDY])
    [lease] = queue.claim([STUDY], "bob")
    evaluate(queue, lease, 0, math.nan)
    queue.finish(lease, "diverged", None)
    feed.poll()
    assert [event.outcome for event in tracker.events if isinstance(event, EndEvent)] == ["failed", "diverged"]


def test_a_failing_tracker_is_warned_of_once_and_loses_nothing(
    database: Database, queue: TrialQueue, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = ListTracker(), ListTracker()
    feed = TrackingFeed(database, [STUDY], {"broken": broken, "sound": sound})
    broken.broken = True
    [lease] = queue.claim([STUDY], "ann")
    for step in (0, 500):
        evaluate(queue, lease, step, 4.0)
        feed.poll()
    assert len(sound.events) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "--track broken: ConnectionError: no answer; training continues, and the events are delivered later"
    ]
    broken.broken = False
    feed.poll()
    assert broken.events == sound.events
    broken.broken = True
    queue.finish(lease, "complete", 4.0)
    feed.poll()
    feed.close()
    assert "--track broken: 1 events were not delivered" in caplog.text
    assert broken.closed
    assert sound.closed


def test_what_is_left_is_delivered_at_the_end(database: Database, queue: TrialQueue) -> None:
    tracker = ListTracker()
    with tracking(database, [STUDY], {"mine": tracker}):
        [lease] = queue.claim([STUDY], "ann")
        evaluate(queue, lease, 0, 4.0)
        queue.finish(lease, "complete", 4.0)
    assert shown(tracker.events) == [(0, 0, 4.0), (0, "complete", 4.0)]
    assert tracker.closed


class HangingTracker(ListTracker):
    """Does not answer until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def track(self, event: Event) -> None:
        self.go_on.wait(60)
        super().track(event)


def test_no_tracker_waits_for_a_slow_one(
    database: Database, queue: TrialQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feeding, "LAST_WAIT_S", 0.3)
    hanging, sound = HangingTracker(), ListTracker()
    [lease] = queue.claim([STUDY], "ann")
    evaluate(queue, lease, 0, 4.0)
    with tracking(database, [STUDY], {"hanging": hanging, "sound": sound}):
        pass
    wait_until(lambda: sound.closed, "the sound tracker is closed")
    assert shown(sound.events) == [(0, 0, 4.0)]
    assert hanging.events == []
    assert caplog.messages[0].startswith("--track hanging: no answer for 0.3 s; start the same command again")
    hanging.go_on.set()
    wait_until(lambda: hanging.closed, "the hanging tracker is closed")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_json_lines_have_each_event_once(database: Database, queue: TrialQueue, tmp_path: Path) -> None:
    path = tmp_path / "new" / "trials.jsonl"
    [lease] = queue.claim([STUDY], "ann")
    evaluate(queue, lease, 0, 4.0)
    queue.finish(lease, "diverged", math.inf, reason="made up")
    for _ in range(2):
        with tracking(database, [STUDY], make_trackers([f"jsonl:{path}"])):
            pass
    assert [(line["event"], line["step"], line["metrics"]) for line in lines(path)] == [
        ("evaluation", 0, {"val_loss": 4.0}),
        ("end", 0, {"val_loss": 4.0, "train_loss": 3.9}),
    ]
    assert (lines(path)[1]["outcome"], lines(path)[1]["reason"]) == ("diverged", "made up")
    # A process that was killed in the middle of a line.
    whole = path.read_bytes()
    for cut in (1, 20, len(whole.splitlines(keepends=True)[-1]) - 3):
        path.write_bytes(whole[:-cut])
        with tracking(database, [STUDY], make_trackers([f"jsonl:{path}"])):
            pass
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"loss": 4.0}', 1),
        ("{\n}", 1),
        ('{"event": "click", "key": "x"}', 1),
        ('{"event": "end", "key": "x"}\nname,loss', 2),
        ('{"key": "x"}\n{"event": "e', 1),
    ],
)
def test_json_lines_leave_a_file_of_the_user_as_it_is(tmp_path: Path, content: str, line: int) -> None:
    path = tmp_path / "mine.json"
    tracker = JsonLinesTracker(str(path))
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TrackerError, match=rf"mine\.json: line {line} is no event of a trial; name a new file$"):
        tracker.track(EvaluationEvent(TrialName(STUDY, "uid", 0, {}, 1337), 0, {"val_loss": 4.0}))
    assert path.read_text(encoding="utf-8") == content


def test_two_processes_do_not_write_the_same_file(
    database: Database, queue: TrialQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "trials.jsonl"
    [lease] = queue.claim([STUDY], "ann")
    evaluate(queue, lease, 0, 4.0)
    ours, theirs = JsonLinesTracker(str(path)), JsonLinesTracker(str(path))
    TrackingFeed(database, [STUDY], {"ours": ours}).poll()
    with caplog.at_level(logging.WARNING):
        TrackingFeed(database, [STUDY], {"theirs": theirs}).poll()
    assert "--track theirs: another process writes to " in caplog.text
    assert len(lines(path)) == 1
    ours.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("json:x", r"--track json:x: .*no module 'json:x'|--track json:x: the module 'json' has no 'x'"),
        ("jsonl", r"--track jsonl: name a file, such as --track jsonl:trials\.jsonl"),
        ("jsonl:.", r"--track jsonl:\.: \. is a folder; name a file in it"),
        (f"jsonl:{__file__}", r"--track jsonl:.*: .*\.py has something else than events of trials; name a new file"),
        ("jsonl:/dev/null", r"--track jsonl:/dev/null: /dev/null has something else than events of trials"),
        (
            "nothing",
            r"--track nothing: choices are jsonl, mlflow, tensorboard, wandb, webhook, or your own as module:Class",
        ),
        ("collections:OrderedDict", r"--track collections:OrderedDict.*"),
    ],
)
def test_wrong_trackers(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_trackers([text])
