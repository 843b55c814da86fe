"""What W&B's offline files have of a study."""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from sample_study import STUDY
from tracked import evaluate

from search.errors import UsageError
from search.storage.database import Database
from search.storage.queue import TrialQueue
from search.trackers.feed import TrackingFeed
from search.trackers.isolated import IsolatedTracker
from search.trackers.protocol import EndEvent, EvaluationEvent, TrialName
from search.trackers.registry import make_trackers

pytest.importorskip("wandb")


@pytest.fixture
def storage_url(tmp_path: Path) -> str:
    """The database of the study: what a tracker gets does not depend on its kind."""
    return f"sqlite:///{tmp_path / 'search.db'}"


BLOCK, HEADER = 32768, 7


def records(file: Path) -> Iterator[Any]:
    """The records of a .wandb file: protocol buffers in the chunks of a LevelDB log."""
    record_type: Any = import_module("wandb.proto.wandb_internal_pb2").Record
    data, at, record = file.read_bytes(), HEADER, b""
    assert data.startswith(b":W&B")
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        record += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # whole, or its last chunk
            yield record_type.FromString(record)
            record = b""


def values(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


class Seen:
    """A run of W&B: what its files would make of it."""

    def __init__(self, folder: Path) -> None:
        self.history: dict[int, dict[str, Any]] = {}
        self.summary: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.exit_code: int | None = None
        [file] = folder.glob("*.wandb")
        for record in records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self.config |= values(record.run.config.update)
            elif kind == "history":
                row = values(record.history.item)
                assert row["_step"] not in self.history
                self.history[row["_step"]] = row
            elif kind == "summary":
                self.summary |= values(record.summary.update)
            elif kind == "exit":
                self.exit_code = record.exit.exit_code

    @property
    def curve(self) -> list[tuple[int, float]]:
        return [(step, row["val_loss"]) for step, row in self.history.items()]


def fragments(folder: Path) -> dict[str, list[Seen]]:
    """All runs by the number of their trial, in the parts that were written."""
    found = defaultdict(list)
    for each in (folder / "wandb").glob("offline-run-*"):
        seen = Seen(each)
        found[seen.run.display_name[:5]].append(seen)
    return found


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)


def test_a_run_for_each_trial(database: Database, queue: TrialQueue, tmp_path: Path) -> None:
    leases = queue.claim([STUDY], "ann", limit=3)
    for lease, (step, loss) in [(lease, at) for lease in leases for at in ((0, 4.0), (500, 3.0))]:
        evaluate(queue, lease, step, loss)
    queue.finish(leases[0], "complete", 3.0, attrs={"sample": "to be\nor not"})
    queue.finish(leases[1], "diverged", None, reason="made up")
    for _ in range(2):  # also the same command again
        poll(database)
        seen = {number: run for number, [run] in fragments(tmp_path).items()}
        assert sorted(seen) == ["00000", "00001", "00002"]
        first = seen["00000"]
        assert first.run.display_name == "00000 block_size=8 n_embd=64 pe_type=randn seed=1337"
        assert (first.run.project, first.run.entity, first.run.run_group) == ("letters", "team", STUDY)
        assert {name: first.config[name] for name in ("block_size", "n_embd", "pe_type", "seed")} == {
            **{"block_size": 8, "n_embd": 64, "pe_type": "randn", "seed": 1337}
        }
        assert first.curve == [(0, 4.0), (500, 3.0)]
        assert (first.summary["train_loss"], first.summary["outcome"]) == (2.9, "complete")
        assert first.summary["sample"] == "to be\nor not"
        assert seen["00001"].summary["reason"] == "made up"
        assert {number: each.exit_code for number, each in seen.items()} == {"00000": 0, "00001": 1, "00002": 1}


def poll(database: Database) -> None:
    """One run of `search.run` that watches."""
    feed = TrackingFeed(database, [STUDY], make_trackers(["wandb:team/letters"]))
    feed.poll()
    feed.close()


def test_a_killed_run_is_completed_by_the_next_one(database: Database, queue: TrialQueue, tmp_path: Path) -> None:
    ended, open_ = queue.claim([STUDY], "ann", limit=2)
    evaluate(queue, ended, 0, 4.0)
    evaluate(queue, open_, 0, 4.0)
    queue.finish(ended, "failed", None, reason="made up")
    tracker = make_trackers(["wandb:letters"])
    feed = TrackingFeed(database, [STUDY], tracker)
    feed.poll()
    for each in tracker.values():
        assert isinstance(each, IsolatedTracker)
        each._end(0)
    evaluate(queue, open_, 500, 3.0)
    queue.finish(open_, "complete", 3.0)
    queue.retry_failed([STUDY])
    [again] = queue.claim([STUDY], "bob")
    assert again.trial_id == ended.trial_id
    evaluate(queue, again, 500, 3.5)
    poll(database)  # it is stopped before the trial ends
    queue.finish(again, "complete", 3.5)
    for _ in range(2):
        poll(database)
    found = fragments(tmp_path)
    assert [each.curve for each in found["00001"]] == [[(0, 4.0), (500, 3.0)]]
    # Of a trial that failed and was put back W&B has a run in two parts.
    assert sorted(each.curve for each in found["00000"]) == [[(0, 4.0)], [(500, 3.5)]]
    assert sorted(each.exit_code or 0 for each in found["00000"]) == [0, 1]


def test_two_parts_of_a_run_within_a_second(tmp_path: Path) -> None:
    trial = TrialName("small", "uid", 0, {}, 1337)
    for _ in range(2):  # also the same command again
        [tracker] = make_trackers(["wandb:letters"]).values()
        for claim, outcome in ((1, "failed"), (2, "complete")):
            tracker.track(EvaluationEvent(trial, claim, {"val_loss": 4.0}))
            tracker.track(EndEvent(trial, claim, outcome, None, claim, {"val_loss": 4.0}))
        tracker.close()
    assert sorted(part.curve for part in fragments(tmp_path)["00000"]) == [[(1, 4.0)], [(2, 4.0)]]


def test_long_names_are_cut_to_what_the_server_takes(tmp_path: Path) -> None:
    trial = TrialName("s" * 200, "uid", 7, {"axis": "x" * 200}, 1337)
    [tracker] = make_trackers(["wandb:letters"]).values()
    tracker.track(EvaluationEvent(trial, 0, {"val_loss": 4.0}))
    tracker.close()
    [seen] = fragments(tmp_path)["00007"]
    assert (len(seen.run.display_name), len(seen.run.run_group)) == (128, 128)


@pytest.mark.parametrize("target", ["", "a/b/c", "team/"])
def test_a_wrong_project(target: str) -> None:
    with pytest.raises(UsageError, match="name a project, such as --track wandb:my-project or --track wandb:my-team"):
        make_trackers([f"wandb:{target}"])


def test_a_login_is_needed_and_not_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(UsageError, match="--track wandb:letters: you are not logged in to W&B: type wandb login"):
        make_trackers(["wandb:letters"])
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(UsageError, match="--track wandb:letters: AuthenticationError: WANDB_API_KEY invalid"):
        make_trackers(["wandb:letters"])
    # Nothing is asked of the server, which may be away.
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    for tracker in make_trackers(["wandb:letters"]).values():
        tracker.close()
