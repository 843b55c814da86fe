"""Writes every evaluation and every end of a trial as a line of JSON; a model for other trackers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from search.errors import UsageError
from search.trackers.locks import open_locked
from search.trackers.protocol import EvaluationEvent, Event, TrackerError

# How every line begins, of an evaluation and of an end.
BEGINNING = b'{"event": "e'


class JsonLinesTracker:
    """Appends each event to a file once, even if runs are restarted.

    Args:
        target: The file's path.

    Raises:
        UsageError: The path is empty, a folder, or a file of something else.
    """

    def __init__(self, target: str) -> None:
        if not target:
            raise UsageError("name a file, such as --track jsonl:trials.jsonl")
        self._path = Path(target)
        if self._path.is_dir():
            raise UsageError(f"{target} is a folder; name a file in it")
        if self._path.exists() and not _begins_with_an_event(self._path):
            raise UsageError(f"{target} has something else than events of trials; name a new file")
        self._file: IO[bytes] | None = None
        self._written: set[str] = set()

    def track(self, event: Event) -> None:
        """Write an event, unless the file already has it.

        Raises:
            TrackerError: Another process is writing to the file, or the file has something else than events.
            OSError: It cannot be written.
        """
        file = self._open()
        if event.key in self._written:
            return
        file.write(json.dumps(_as_json(event), allow_nan=False).encode() + b"\n")
        file.flush()  # a user may be watching the file
        self._written.add(event.key)

    def _open(self) -> IO[bytes]:
        if self._file is None:
            file = open_locked(self._path)  # two processes would miss each other's lines
            try:
                self._written = _read_keys(file, self._path)
            except BaseException:
                file.close()
                raise
            self._file = file
        return self._file

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _begins_with_an_event(path: Path) -> bool:
    """Whether a file is empty, or begins as ours do."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            begin = file.read(len(BEGINNING))
    except OSError:
        return True  # said when it is written
    return _can_be_ours(begin)


def _can_be_ours(line: bytes) -> bool:
    """Whether a line, which can be cut anywhere, begins as ours do."""
    return BEGINNING.startswith(line[: len(BEGINNING)])


def _read_keys(file: IO[bytes], path: Path) -> set[str]:
    """Return the keys of the events in a file; remove a last line that a crash left incomplete.

    Raises:
        TrackerError: A line is none of ours, so the file is left as it is.
    """
    file.seek(0)
    keys, end = set[str](), 0
    for number, line in enumerate(file, 1):
        is_whole = line.endswith(b"\n")
        if not is_whole and _can_be_ours(line):
            file.truncate(end)
            break
        try:
            event = json.loads(line) if is_whole else None
        except ValueError:
            event = None
        if not isinstance(event, dict) or not {"event", "key"} <= event.keys():
            raise TrackerError(f"{path}: line {number} is no event of a trial; name a new file")
        end += len(line)
        keys.add(str(event["key"]))
    return keys


def _as_json(event: Event) -> dict[str, Any]:
    trial = event.trial
    line = {
        "key": event.key,
        **{"study": trial.study, "trial": trial.number, "cell": dict(trial.cell), "seed": trial.seed},
        **{"step": event.step, "metrics": _finite(event.metrics)},
    }
    if isinstance(event, EvaluationEvent):
        return {"event": "evaluation", **line}
    return {"event": "end", **line, "outcome": event.outcome, "reason": event.reason}


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Replace NaN and infinity, which JSON lacks, by None."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
