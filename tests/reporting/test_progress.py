"""What a person sees while trials run."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from study_files import sqlite, write_study

from search.objectives.corpus import encode
from search.reporting.progress import (
    Harmless,
    PlainLines,
    Silent,
    Snapshot,
    progress_display,
    summary_line,
)
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.leases import Report
from search.storage.queue import TrialQueue
from search.storage.state_transitions import Outcome
from search.study.definition import load_definition
from search.study.planner import Study, ensure_planned

STUDY = 'objective = "fake_objective:start"\n[grid]\nn_embd = [64, 64000]\npe_type = ["randn", "rope"]\n'
STEPS = 100


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A planned study of 4 trials."""
    definition = load_definition(write_study(tmp_path, STUDY))
    with open_database(sqlite(tmp_path), create=True).closing() as database:
        ensure_planned(database, Study(definition, "small", encode("text", "to be")))
        yield database


@pytest.fixture
def queue(database: Database) -> TrialQueue:
    return TrialQueue(database)


def end_one(queue: TrialQueue, outcome: Outcome, reason: str | None = None) -> None:
    [lease] = queue.claim(["small"], "host/cpu-0/1-a")
    queue.report([Report(lease, STEPS, 2.0, 2.5)])
    queue.finish(lease, outcome, 2.5, {}, reason)


def test_snapshot_counts(database: Database, queue: TrialQueue) -> None:
    end_one(queue, "complete")
    end_one(queue, "pruned")
    queue.claim(["small"], "me")
    snapshot = Snapshot(database, ["small"])
    assert (snapshot.done, snapshot.total, len(snapshot.running)) == (2, 4, 1)
    assert snapshot.best is not None
    assert snapshot.best.val_loss == 2.5


def test_seconds_left(database: Database, queue: TrialQueue) -> None:
    assert Snapshot(database, ["small"]).seconds_left(1) is None
    end_one(queue, "complete")
    first = Snapshot(database, ["small"])
    took = first.ended[0].seconds
    assert took is not None
    # Three trials as long as the first.
    assert first.seconds_left(1) == pytest.approx(3 * took)
    assert first.seconds_left(2) == pytest.approx(1.5 * took)
    queue.claim(["small"], "me")
    assert Snapshot(database, ["small"]).seconds_left(1) == pytest.approx(2.5 * took)


def test_nothing_is_left_at_the_end(database: Database, queue: TrialQueue) -> None:
    for _ in range(4):
        end_one(queue, "complete")
    snapshot = Snapshot(database, ["small"])
    assert snapshot.seconds_left(2) == 0
    assert summary_line(snapshot, 0) == "4/4 done; 4 complete; best 2.5000 (randn n_embd=64 seed=1337)"


def test_plain_lines_say_each_end_once(
    database: Database, queue: TrialQueue, capsys: pytest.CaptureFixture[str]
) -> None:
    end_one(queue, "complete")  # by an earlier start: no news
    lines = PlainLines()
    lines.show(Snapshot(database, ["small"]), 2)
    end_one(queue, "failed", "ZeroDivisionError: made up")
    end_one(queue, "pruned", "pruned at step 100")
    for _ in range(3):
        lines.show(Snapshot(database, ["small"]), 2)
    end_one(queue, "complete")
    lines.show(Snapshot(database, ["small"]), 2)
    out, err = capsys.readouterr()
    said = err.splitlines()
    assert out == ""
    assert said[0].startswith("1/4 done; 1 complete; best 2.5000 (randn n_embd=64 seed=1337); about ")
    assert said[1:3] == [
        "[2/4] failed val_loss 2.5000  rope n_embd=64 seed=1337 in 0 s: ZeroDivisionError: made up",
        "[3/4] pruned val_loss 2.5000  randn n_embd=64000 seed=1337 in 0 s",
    ]
    assert said[3].startswith("3/4 done; 1 complete; 1 pruned; 1 failed; best ")
    assert said[4] == "[4/4] complete val_loss 2.5000  rope n_embd=64000 seed=1337 in 0 s"
    assert said[5].startswith("4/4 done; ")
    assert len(said) == 6


def test_display_that_suits_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_display(True, "small", STEPS) as quiet:
        assert isinstance(quiet, Silent)
    with progress_display(False, "small", STEPS) as plain:
        assert isinstance(plain, Harmless)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress_display(False, "small", STEPS) as live:
        assert isinstance(live, Harmless)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("where", ["notebook", "dumb terminal", "pipe"])
def test_no_control_codes(database: Database, queue: TrialQueue, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's stderr is no terminal, whatever the environment says of the one it was started from."""
    stream = io.StringIO()
    monkeypatch.setenv("TERM", "dumb" if where == "dumb terminal" else "xterm-256color")
    monkeypatch.setattr(stream, "isatty", lambda: where == "dumb terminal", raising=False)
    monkeypatch.setattr("sys.stderr", stream)
    with progress_display(False, "small", STEPS) as display:
        display.show(Snapshot(database, ["small"]), 2)
        end_one(queue, "complete")
        display.show(Snapshot(database, ["small"]), 2)
    assert "[1/4] complete" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
