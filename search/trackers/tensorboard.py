"""Writes event files for TensorBoard: curves, the HParams tab, and what models write.

Each trial is a run, a folder with one event file. After a restart all events come again, so the file is written anew,
with the same records; TensorBoard goes on where it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from search.errors import UsageError
from search.storage.private_files import make_private_folder, open_private
from search.trackers.locks import open_locked
from search.trackers.protocol import EvaluationEvent, Event, TrialName
from search.trackers.runs import LatestMetrics, as_code_block, only, parameters, require, run_name

if TYPE_CHECKING:
    from tensorboard.summary.writer.record_writer import RecordWriter

FILE = "events.out.tfevents.0000000000.lm-search"
LOCK = ".lm-search.lock"
# A file system's limit for names is 255 bytes.
LONGEST_NAME = 120


class TensorBoardTracker:
    """Writes `FOLDER/<study>/<trial>`; needs the extra `tensorboard`.

    Args:
        target: The folder, for `tensorboard --logdir`.

    Raises:
        UsageError: No folder is named, or TensorBoard is not installed.
    """

    def __init__(self, target: str) -> None:
        if not target:
            raise UsageError("name a folder, such as --track tensorboard:runs")
        require("tensorboard.summary.writer.record_writer", "TensorBoard", "tensorboard")
        self._folder = Path(target)
        if self._folder.exists() and not self._folder.is_dir():
            raise UsageError(f"{target} is a file; name a folder")
        self._lock: IO[bytes] | None = None
        self._open: dict[tuple[str, int], _Run] = {}

    def track(self, event: Event) -> None:
        """Write an event.

        Raises:
            OSError: The folder cannot be written, or another process writes to it.
        """
        self._take_lock()
        key, run = (event.trial.study, event.trial.number), self._run(event.trial)
        _write_scalars(run.writer, run.latest.lacking(event.metrics, event.step or 0), event.step or 0)
        if isinstance(event, EvaluationEvent):
            run.writer.flush()
            return
        if event.sample:
            _write_text(run.writer, "sample", event.sample, event.step or 0)
        _write_end(run.writer, event.outcome)
        run.writer.close()
        del self._open[key]

    def _take_lock(self) -> None:
        if self._lock is None:
            self._lock = open_locked(self._folder / LOCK)

    def _run(self, trial: TrialName) -> _Run:
        from tensorboard.summary.writer.record_writer import RecordWriter

        key = trial.study, trial.number
        if key not in self._open:
            folder = self._folder / _file_name(trial.study) / _file_name(run_name(trial))
            make_private_folder(folder)
            writer = RecordWriter(open_private(folder / FILE, "wb"))
            _write(writer, file_version="brain.Event:2")
            _write_start(writer, trial)
            self._open[key] = _Run(writer)
        return self._open[key]

    def close(self) -> None:
        """Close all files."""
        for run in self._open.values():
            run.writer.close()
        self._open.clear()
        if self._lock is not None:
            self._lock.close()


@dataclass
class _Run:
    """The open file of a trial."""

    writer: RecordWriter
    latest: LatestMetrics = field(default_factory=LatestMetrics)


def _file_name(text: str) -> str:
    return only(r"\w .=+-", text, LONGEST_NAME)


def _write(writer: RecordWriter, step: int = 0, **content: Any) -> None:
    from tensorboard.compat.proto.event_pb2 import Event as Record

    writer.write(Record(wall_time=time.time(), step=step, **content).SerializeToString())


def _write_scalars(writer: RecordWriter, metrics: Mapping[str, float], step: int) -> None:
    from tensorboard.compat.proto.summary_pb2 import Summary

    for name, value in metrics.items():
        # TensorBoard draws a NaN as a gap, which is what a diverged loss is.
        _write(writer, step, summary=Summary(value=[Summary.Value(tag=name, simple_value=value)]))


def _write_text(writer: RecordWriter, name: str, text: str, step: int) -> None:
    from tensorboard.plugins.text.summary_v2 import text_pb

    _write(writer, step, summary=text_pb(name, as_code_block(text)))


def _write_start(writer: RecordWriter, trial: TrialName) -> None:
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    values = {name: _hparam(value) for name, value in parameters(trial).items()}
    name = f"{trial.study}/{trial.number}"
    _write(writer, summary=hparams_pb(values, trial_id=name, start_time_secs=time.time()))


def _hparam(value: Any) -> bool | float | str:
    is_number = isinstance(value, (bool, int, float)) and math.isfinite(value)
    return value if is_number else str(value)


def _write_end(writer: RecordWriter, outcome: str) -> None:
    # The function for this in the package imports TensorFlow.
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.api_pb2 import Status
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    ended_well = outcome in ("complete", "pruned")
    status = Status.Value("STATUS_SUCCESS" if ended_well else "STATUS_FAILURE")
    end = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=time.time()))
    value = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(end),
        tensor=metadata.NULL_TENSOR,
    )
    _write(writer, summary=Summary(value=[value]))
