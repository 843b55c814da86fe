"""A tracker in a process of its own: nothing that it does reaches the run, and after any error it starts again."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from rude_tracker import DIES, FAILS, HANGS

from search.errors import UsageError
from search.trackers import isolated
from search.trackers.isolated import IsolatedTracker
from search.trackers.protocol import EndEvent, EvaluationEvent, TrackerError, TrialName
from search.trackers.runs import require

RUDE = "rude_tracker:RudeTracker"


def name(number: int) -> TrialName:
    return TrialName("small", "uid", number, {}, 0)


def test_after_any_error_it_gets_the_unfinished_trials_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(number) for number in signal.valid_signals()], sys.excepthook, dict(os.environ)
    file = tmp_path / "steps.txt"
    tracker = IsolatedTracker(RUDE, str(file))
    tracker.track(EvaluationEvent(name(0), 10, {}))
    tracker.track(EvaluationEvent(name(1), 11, {}))
    tracker.track(EndEvent(name(0), 1, "complete", None, 12, {}))
    steps = [10, 11, 12]
    reasons = {FAILS: "ConnectionError: no answer", DIES: "its process has ended", HANGS: "no answer for 1 s"}
    patience_s = isolated.ANSWER_S
    for step, reason in reasons.items():
        monkeypatch.setattr(isolated, "ANSWER_S", 1.0 if step == HANGS else patience_s)
        with pytest.raises(TrackerError, match=reason):
            tracker.track(EvaluationEvent(name(1), step, {}))
        monkeypatch.setattr(isolated, "ANSWER_S", patience_s)
        assert file.read_text() == " ".join(map(str, steps))
        tracker.track(EvaluationEvent(name(1), step, {}))
        steps = [11, *[each for each in steps if each < 10], step]
        assert file.read_text() == " ".join(map(str, steps))
    tracker.close()
    assert file.with_suffix(".closed").exists()
    assert capfd.readouterr() == ("", "")
    assert before == ([signal.getsignal(number) for number in signal.valid_signals()], sys.excepthook, dict(os.environ))


def test_what_it_refuses_is_an_error_of_the_user() -> None:
    with pytest.raises(UsageError, match="name a file"):
        IsolatedTracker(RUDE, "")


def test_a_missing_extra_is_named_with_its_command() -> None:
    with pytest.raises(
        UsageError, match=r"MLflow is not installed \(No module.*\); .*: pip install 'lm-search\[mlflow\]'"
    ):
        require("no_such_library", "MLflow", "mlflow")
