"""What MLflow has of a study, read by its own client."""

from __future__ import annotations

import math
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sample_study import STUDY
from tracked import evaluate

from search.errors import UsageError
from search.storage.database import Database
from search.storage.queue import TrialQueue
from search.trackers.feed import TrackingFeed
from search.trackers.mlflow import MlflowTracker, make_database
from search.trackers.protocol import EvaluationEvent, TrialName
from search.trackers.registry import make_trackers

mlflow = pytest.importorskip("mlflow")

# Of MLflow's database, with SQLAlchemy 2.1.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


@pytest.fixture
def storage_url(tmp_path: Path) -> str:
    """The database of the study: what a tracker gets does not depend on its kind."""
    return f"sqlite:///{tmp_path / 'search.db'}"


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow, which takes seconds to make; an earlier process was killed as it made it."""
    file = tmp_path_factory.mktemp("mlflow") / "empty.db"
    half = file.with_name("empty.db.new")
    with sqlite3.connect(half) as connection:
        connection.execute("CREATE TABLE _alembic_tmp_experiments (id INTEGER)")
    connection.close()
    MlflowTracker(f"sqlite:///{file}").close()
    assert not file.exists(), "nothing is made before there is an event"
    make_database(f"sqlite:///{file}?timeout=5")
    assert not half.exists()
    return file


def test_what_is_no_new_file_is_left_to_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.db").touch()
    for uri in ("http://127.0.0.1:1", "sqlite:///:memory:", "sqlite:///", "sqlite:///there.db?timeout=5"):
        make_database(uri)
    assert [each.name for each in tmp_path.iterdir()] == ["there.db"]


@pytest.fixture
def uri(empty: Path, tmp_path: Path) -> str:
    shutil.copy(empty, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


class Seen:
    """What MLflow has of the small study."""

    def __init__(self, uri: str) -> None:
        self.client = mlflow.MlflowClient(uri)
        self.experiment = self.client.get_experiment_by_name(STUDY).experiment_id
        runs = self.client.search_runs([self.experiment])
        [self.study] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        self.trials = {run.info.run_name[:5]: run for run in runs if run is not self.study}
        assert len(self.trials) == len(runs) - 1
        assert {run.data.tags["mlflow.parentRunId"] for run in self.trials.values()} <= {self.study.info.run_id}

    def curve(self, trial: str, metric: str = "val_loss") -> list[tuple[int, float]]:
        history = self.client.get_metric_history(self.trials[trial].info.run_id, metric)
        return sorted((each.step, each.value) for each in history)


def poll(database: Database, tracker: Any) -> None:
    """One run of `search.run` that watches."""
    feed = TrackingFeed(database, [STUDY], {"mlflow": tracker})
    feed.poll()
    feed.close()


def test_a_nested_run_for_each_trial(database: Database, queue: TrialQueue, uri: str) -> None:
    leases = queue.claim([STUDY], "ann", limit=4)
    for lease, (step, loss) in [(lease, at) for lease in leases for at in ((0, 4.0), (500, 3.0))]:
        evaluate(queue, lease, step, math.nan if lease is leases[1] and step else loss)
    queue.finish(leases[0], "complete", 3.0, attrs={"sample": "to be\nor not"})
    queue.finish(leases[1], "diverged", None, reason="made up")
    queue.finish(leases[2], "pruned", 3.0)
    for _ in range(2):
        poll(database, MlflowTracker(uri))
        seen = Seen(uri)
        assert {number: run.info.status for number, run in seen.trials.items()} == {
            **{"00000": "FINISHED", "00001": "FAILED", "00002": "KILLED", "00003": "RUNNING"}
        }
        assert seen.study.info.status == "FINISHED"
        assert seen.trials["00000"].info.run_name == "00000 block_size=8 n_embd=64 pe_type=randn seed=1337"
        assert seen.trials["00000"].data.params == {
            **{"block_size": "8", "n_embd": "64", "pe_type": "randn", "seed": "1337"}
        }
        assert seen.curve("00000") == seen.curve("00003") == [(0, 4.0), (500, 3.0)]
        assert seen.curve("00000", "train_loss") == [(500, 2.9)]
        assert len(seen.curve("00001")) == 2
        tags = seen.trials["00000"].data.tags
        assert tags["mlflow.note.content"] == "    to be\n    or not"
        assert tags["lm_search.outcome"] == "complete"
        assert seen.trials["00001"].data.tags["lm_search.reason"] == "made up"
        info = seen.trials["00000"].info
        assert info.start_time <= info.end_time


def test_a_killed_run_and_lost_answers_leave_no_gap_and_double_nothing(
    database: Database, queue: TrialQueue, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [lease] = queue.claim([STUDY], "ann")
    evaluate(queue, lease, 0, 4.0)
    killed = TrackingFeed(database, [STUDY], {"mlflow": MlflowTracker(uri)})
    killed.poll()
    evaluate(queue, lease, 500, 3.0)
    feed = TrackingFeed(database, [STUDY], {"mlflow": MlflowTracker(uri)})
    for name in ("create_run", "log_batch", "set_terminated"):
        lose_answers(monkeypatch, name)
    for step in (1000, 1500):
        for _ in range(8):
            feed.poll()
        evaluate(queue, lease, step, 2.0)
    queue.finish(lease, "complete", 2.0)
    for _ in range(8):
        feed.poll()
    feed.close()
    seen = Seen(uri)
    assert seen.curve("00000") == [(0, 4.0), (500, 3.0), (1000, 2.0), (1500, 2.0)]
    assert seen.curve("00000", "train_loss") == [(1500, 1.9)]
    assert seen.trials["00000"].info.status == "FINISHED"


def lose_answers(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let every other call of a method of MLflow's client do its work and fail."""
    call, calls = getattr(mlflow.MlflowClient, name), iter(range(1000))

    def do_and_fail(*arguments: Any, **keywords: Any) -> Any:
        result = call(*arguments, **keywords)
        if next(calls) % 2 == 0:
            raise ConnectionError("lost the answer")
        return result

    monkeypatch.setattr(mlflow.MlflowClient, name, do_and_fail)


def test_a_failed_trial_that_is_put_back_goes_on_in_its_run(database: Database, queue: TrialQueue, uri: str) -> None:
    tracker = MlflowTracker(uri)
    feed = TrackingFeed(database, [STUDY], {"mlflow": tracker})
    [lease] = queue.claim([STUDY], "ann")
    evaluate(queue, lease, 0, 4.0)
    queue.finish(lease, "failed", None, reason="made up")
    feed.poll()
    assert Seen(uri).trials["00000"].info.status == "FAILED"
    queue.retry_failed([STUDY])
    [lease] = queue.claim([STUDY], "bob")
    evaluate(queue, lease, 0, 4.0)
    evaluate(queue, lease, 500, 3.0)
    feed.poll()
    assert Seen(uri).trials["00000"].info.status == "RUNNING"
    queue.finish(lease, "complete", 3.0)
    feed.poll()
    poll(database, MlflowTracker(uri))
    seen = Seen(uri)
    assert (seen.trials["00000"].info.status, seen.curve("00000")) == ("FINISHED", [(0, 4.0), (500, 3.0)])


def test_a_long_name_fits_the_column_of_mlflow(uri: str) -> None:
    from mlflow.store.tracking.dbmodels.models import SqlRun

    trial = TrialName(STUDY, "uid", 7, {f"axis_{number}": "x" * 20 for number in range(20)}, 1337)
    tracker = MlflowTracker(uri)
    tracker.track(EvaluationEvent(trial, 0, {"val_loss": 4.0}))
    tracker.close()
    assert len(Seen(uri).trials["00007"].info.run_name) == SqlRun.__table__.c.name.type.length


class Server:
    """An MLflow server on a database, as `mlflow server` runs it."""

    def __init__(self, uri: str, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.uri = f"http://user:sec@ret@127.0.0.1:{self.port}"
        self.environment = {
            **os.environ,
            "_MLFLOW_SERVER_FILE_STORE": uri,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": str(folder / "artifacts"),
        }

    def __enter__(self) -> Server:
        command = [sys.executable, "-m", "waitress", "--listen", f"127.0.0.1:{self.port}", "mlflow.server:app"]
        log = subprocess.DEVNULL
        self.server = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=30):
                return self
            time.sleep(0.1)
        raise AssertionError("the server does not start")

    def __exit__(self, *_: object) -> None:
        self.server.kill()
        self.server.wait()


def test_a_server_that_is_killed_and_comes_back(
    database: Database, queue: TrialQueue, uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("flask")
    before = os.environ.copy()
    server = Server(uri, tmp_path)
    first, second = queue.claim([STUDY], "ann", limit=2)
    with server:
        feed = TrackingFeed(database, [STUDY], make_trackers([f"mlflow:{server.uri}"]))
        evaluate(queue, first, 0, 4.0)
        evaluate(queue, second, 0, math.inf)
        feed.poll()
        assert caplog.messages == []
    evaluate(queue, first, 500, 3.0)
    queue.finish(second, "diverged", None)
    for _ in range(2):
        feed.poll()
    [warning] = caplog.messages
    assert re.match(r"--track mlflow:http://127.0.0.1:\d+/…: MlflowException: API request to http://", warning)
    assert not re.findall("sec@|ret@", warning)
    with server:
        evaluate(queue, first, 1000, 2.0)
        queue.finish(first, "complete", 2.0)
        feed.poll()
        feed.close()
    seen = Seen(uri)
    assert seen.curve("00000") == [(0, 4.0), (500, 3.0), (1000, 2.0)]
    assert len(seen.curve("00001")) == 1
    assert {number: run.info.status for number, run in seen.trials.items()} == {"00000": "FINISHED", "00001": "FAILED"}
    assert caplog.messages == [warning]
    assert os.environ == before


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("", r"--track mlflow:: name a server or a database, such as --track mlflow:http://localhost:5000"),
        ("mlruns", r"--track mlflow:mlruns: name a server or a database.*; choices are http, https, sqlite"),
        ("http://", r"--track mlflow:http:///…: name a server"),
        ("http://[bad", r"--track mlflow:http://\[bad/…: name a server"),
    ],
)
def test_a_wrong_uri(target: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_trackers([f"mlflow:{target}"])
