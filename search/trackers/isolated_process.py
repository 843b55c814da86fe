"""`python -m search.trackers.isolated_process`: the process of an isolated tracker; answers each message on stdin."""

from __future__ import annotations

import os
import pickle
from contextlib import suppress
from importlib import import_module
from typing import IO, Any

from search.errors import UsageError
from search.launchers.child_process import when_parent_ends
from search.storage.texts import error_text
from search.trackers.protocol import Event, Tracker, TrackerError
from search.workers.stop_signals import ignore_stop_signals

# What trains on the same cores goes first.
NICE = 10


def main() -> None:
    """Answer messages until there are no more: "module:Class" and a target, then events, then None to close."""
    ignore_stop_signals()  # it ends with the run, which may still have events to send
    when_parent_ends(os.getppid(), lambda: os._exit(0))  # also in the middle of a call
    os.nice(NICE)
    with _private(0, os.O_RDONLY, "rb") as messages, _private(1, os.O_WRONLY, "wb") as answers:
        tracker: Tracker | None = None
        while True:
            try:
                message = pickle.load(messages)
            except EOFError:
                break
            answer: UsageError | TrackerError | None = None
            try:
                tracker = _answer(message, tracker)
            except UsageError as error:
                answer = error
            except (Exception, SystemExit) as error:
                answer = error if isinstance(error, TrackerError) else TrackerError(error_text(error))
                _close(tracker)
            pickle.dump(answer, answers)
            answers.flush()
    # The exit handlers of libraries may wait for a service that is away.
    os._exit(0)


def _answer(message: tuple[str, str] | Event | None, tracker: Tracker | None) -> Tracker | None:
    if isinstance(message, tuple):
        reference, target = message
        module, _, name = reference.partition(":")
        made: Tracker = getattr(import_module(module), name)(target)
        return made
    assert tracker is not None, "the first message names the tracker"
    if message is None:
        tracker.close()
    else:
        tracker.track(message)
    return tracker


def _close(tracker: Tracker | None) -> None:
    with suppress(Exception, SystemExit):
        if tracker is not None:
            tracker.close()


def _private(number: int, mode: int, opened: str) -> IO[Any]:
    """Move stdin or stdout away from where libraries print and ask."""
    copy = os.fdopen(os.dup(number), opened)
    null = os.open(os.devnull, mode)
    os.dup2(null, number)
    os.close(null)
    return copy


if __name__ == "__main__":
    main()
