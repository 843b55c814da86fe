"""Event files, read by TensorBoard's own reader."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from sample_study import STUDY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tracked import evaluate

from search.errors import UsageError
from search.storage.database import Database
from search.storage.queue import TrialQueue
from search.trackers.feed import TrackingFeed
from search.trackers.registry import make_trackers


def read(folder: Path) -> dict[str, EventAccumulator]:
    """What TensorBoard sees, by the number of the trial."""
    found = {}
    for run in sorted((folder / STUDY).iterdir()):
        found[run.name[:5]] = EventAccumulator(str(run)).Reload()
    return found


def hparams(run: EventAccumulator, tag: str) -> plugin_data_pb2.HParamsPluginData:
    content = run.summary_metadata[tag].plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def poll(database: Database, folder: Path) -> None:
    """One run of `search.run` that watches."""
    feed = TrackingFeed(database, [STUDY], make_trackers([f"tensorboard:{folder}"]))
    feed.poll()
    feed.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_curves_parameters_and_ends(database: Database, queue: TrialQueue, tmp_path: Path) -> None:
    first, second, third = queue.claim([STUDY], "ann", limit=3)
    for step, loss in ((0, 4.0), (500, 3.0)):
        evaluate(queue, first, step, loss)
    evaluate(queue, second, 0, math.nan)
    evaluate(queue, third, 0, 4.2)
    queue.finish(first, "complete", 3.0, attrs={"sample": "to be\nor not"})
    queue.finish(second, "diverged", None)
    feed = TrackingFeed(database, [STUDY], make_trackers([f"tensorboard:{tmp_path}"]))
    feed.poll()
    runs = read(tmp_path)
    assert sorted(runs) == ["00000", "00001", "00002"]
    assert [(each.step, each.value) for each in runs["00000"].Scalars("val_loss")] == [(0, 4.0), (500, 3.0)]
    assert math.isnan(runs["00001"].Scalars("val_loss")[0].value)
    start = hparams(runs["00000"], "_hparams_/session_start_info").session_start_info.hparams
    assert {name: value.WhichOneof("kind") for name, value in start.items()} == {
        "block_size": "number_value",
        "n_embd": "number_value",
        "pe_type": "string_value",
        "seed": "number_value",
    }
    assert (start["pe_type"].string_value, start["n_embd"].number_value) == ("randn", 64)
    ends = {
        name: hparams(run, "_hparams_/session_end_info").session_end_info.status
        for name, run in runs.items()
        if name != "00002"
    }
    assert ends == {"00000": 1, "00001": 2}  # success and failure
    assert "_hparams_/session_end_info" not in runs["00002"].summary_metadata
    assert b"to be\n    or not" in runs["00000"].Tensors("sample")[0].tensor_proto.string_val[0]
    evaluate(queue, third, 500, 4.1)
    feed.poll()
    feed.close()
    assert [each.step for each in read(tmp_path)["00002"].Scalars("val_loss")] == [0, 500]


def test_a_last_value_that_differs_from_the_last_evaluation_is_written(
    database: Database, queue: TrialQueue, tmp_path: Path
) -> None:
    """A function may return another value than it reported; the HParams tab shows the last one."""
    [lease] = queue.claim([STUDY], "ann")
    evaluate(queue, lease, 500, 3.0)
    queue.finish(lease, "complete", 2.5)
    poll(database, tmp_path)
    [run] = read(tmp_path).values()
    assert [(each.step, each.value) for each in run.Scalars("val_loss")] == [(500, 3.0), (500, 2.5)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_that_was_killed_is_completed_by_the_next_one(
    database: Database, queue: TrialQueue, tmp_path: Path
) -> None:
    [lease] = queue.claim([STUDY], "ann")
    evaluate(queue, lease, 0, 4.0)
    poll(database, tmp_path)
    [file] = tmp_path.glob(f"{STUDY}/*/events.out.tfevents.*")
    size = file.stat().st_size
    with file.open("r+b") as torn:
        torn.truncate(size - 7)  # a kill between two bytes
    evaluate(queue, lease, 500, 3.0)
    queue.finish(lease, "complete", 3.0)
    for _ in range(2):  # also of a study that has ended
        poll(database, tmp_path)
        [run] = read(tmp_path).values()
        assert [each.step for each in run.Scalars("val_loss")] == [0, 500]
    assert len(list(tmp_path.glob(f"{STUDY}/*/*"))) == 1


def test_two_runs_do_not_write_to_one_folder(
    database: Database, queue: TrialQueue, tmp_path: Path, caplog: Any
) -> None:
    [lease] = queue.claim([STUDY], "ann")
    evaluate(queue, lease, 0, 4.0)
    first = TrackingFeed(database, [STUDY], make_trackers([f"tensorboard:{tmp_path}"]))
    second = TrackingFeed(database, [STUDY], make_trackers([f"tensorboard:{tmp_path}"]))
    first.poll()
    second.poll()
    assert "another process writes to" in caplog.text
    first.close()
    second.poll()
    second.close()
    assert len(read(tmp_path)) == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [("", "name a folder, such as --track tensorboard:runs"), ("{file}", "is a file; name a folder")],
)
def test_a_wrong_folder(tmp_path: Path, target: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=message):
        make_trackers(["tensorboard:" + target.format(file=tmp_path / "file")])
