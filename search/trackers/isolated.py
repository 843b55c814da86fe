"""Runs a tracker in a process of its own, because its library changes the process that it is used in.

Libraries install signal handlers and exit hooks, set environment variables that workers would inherit, print, start
threads, and wait for minutes for a server that is away. Here nothing of that reaches the run, and what does not answer
is killed.
"""

from __future__ import annotations

import pickle
import select
import subprocess
from contextlib import suppress
from typing import IO, Any, cast

from search.errors import UsageError
from search.launchers.child_process import child_command, child_environment
from search.trackers.protocol import EndEvent, Event, TrackerError

ANSWER_S = 60.0
END_S = 5.0


class IsolatedTracker:
    """Passes events on to a tracker in another process, and starts it again after an error.

    The events of trials that have not ended are kept, and sent again to a tracker that is started again: it needs no
    memory of its own, and after any error it looks anew what its service has.

    Args:
        reference: The tracker, as "module:Class".
        target: The TARGET of `--track NAME:TARGET`.

    Raises:
        UsageError: The tracker refuses its target.
    """

    def __init__(self, reference: str, target: str) -> None:
        self._tracker = reference, target
        self._unfinished: dict[tuple[str, str, int], list[Event]] = {}
        self._process: _Process | None = None
        try:
            self._call(self._tracker)
        except (TrackerError, UsageError) as error:
            self._end()
            raise UsageError(str(error)) from error
        self._is_started = True

    def track(self, event: Event) -> None:
        """Process an event.

        Raises:
            TrackerError: The tracker cannot process it now, or does not answer.
        """
        if not self._is_started:
            self._call(self._tracker)
            for events in self._unfinished.values():
                for earlier in events:
                    self._call(earlier)
            self._is_started = True
        self._call(event)
        trial = event.trial.uid, event.trial.study, event.trial.number
        if isinstance(event, EndEvent):
            self._unfinished.pop(trial, None)
        else:
            self._unfinished.setdefault(trial, []).append(event)

    def close(self) -> None:
        """Close the tracker and end its process.

        Raises:
            TrackerError: The tracker cannot be closed properly.
        """
        try:
            if self._is_started:
                self._call(None)
        finally:
            self._end()

    def _call(self, message: tuple[str, str] | Event | None) -> None:
        if self._process is None:
            self._process = _Process()
        try:
            answer = self._process.call(message)
        except TrackerError:
            self._is_started = False
            self._end(0)
            raise
        if answer is not None:
            self._is_started = False
            raise answer

    def _end(self, wait_s: float = END_S) -> None:
        if self._process is not None:
            self._process.end(wait_s)
            self._process = None


class _Process:
    """A process of `search.trackers.isolated_process`."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            child_command("search.trackers.isolated_process"),
            env=child_environment({}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C does not reach it
        )
        self._requests, self._answers = cast(IO[bytes], self._popen.stdin), cast(IO[bytes], self._popen.stdout)

    def call(self, message: Any) -> UsageError | TrackerError | None:
        """Send a message and wait for the answer.

        Raises:
            TrackerError: The process has ended, or does not answer in time.
        """
        try:
            pickle.dump(message, self._requests)
            self._requests.flush()
            if not select.select([self._answers], [], [], ANSWER_S)[0]:
                raise TrackerError(f"no answer for {ANSWER_S:g} s")
            answer: UsageError | TrackerError | None = pickle.load(self._answers)
        except (OSError, EOFError, pickle.PickleError) as error:
            raise TrackerError("its process has ended") from error
        return answer

    def end(self, wait_s: float) -> None:
        """End the process; kill it if it does not end by itself."""
        with suppress(OSError):
            self._requests.close()
        try:
            self._popen.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._answers.close()
