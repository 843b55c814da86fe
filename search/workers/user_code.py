"""Calls into a study's own code: its errors are a trial's errors, and its silence is measured."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from search.storage.texts import storable_text
from search.study.no_arguments import without_arguments


class UserCodeError(Exception):
    """A study's own code raised something.

    Attributes:
        error: What it raised, SystemExit and KeyboardInterrupt included.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(storable_text(error))  # a user's error may have no text
        self.error = error


class UserCode:
    """The calls of one process into a study's own code.

    The main thread makes the calls; a `search.workers.watchdog.Watchdog` adds up the time.

    Attributes:
        training_s: How long the current trials have run.
        silent_s: How long since their last sign of life: a step, a bare yield or an evaluation.
        has_evaluated: Whether they have yielded a new evaluation after their first step.
        is_training: Whether user code is running that should look at a stop request after each step.
        must_pause: Whether the worker waits for them to pause; to ask is no sign of life.
        must_end: Set this once it was given up: the main thread then waits for the end of the process, instead of
            taking the end of a program that the code waits for as an error of the trial.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self.training_s = self.silent_s = 0.0
        self.has_evaluated = self.is_training = self.must_end = False
        self.must_pause: Callable[[], bool] = lambda: False

    def begin_trials(self) -> None:
        """Restart the clocks: other trials begin."""
        self.training_s = self.silent_s = 0.0
        self.has_evaluated = False

    def show_life(self) -> None:
        """Restart the clock of silence."""
        self.silent_s = 0.0

    @contextmanager
    def running_trials(self) -> Iterator[None]:
        """Run code that starts or trains trials.

        Raises:
            UserCodeError: It raised anything.
        """
        self.show_life()
        self.is_training = True
        try:
            with self.calling():
                yield
        finally:
            if self.must_end:
                threading.Event().wait()
            self.is_training = False

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Run other code of a study.

        Raises:
            UserCodeError: It raised anything.
        """
        try:
            with without_arguments():
                yield
        except BaseException as error:
            if os.getpid() != self._pid:
                # A process that user code forked must not go on as a second worker.
                os._exit(_exit_code(error))
            raise UserCodeError(error) from error


def _exit_code(error: BaseException) -> int:
    if not isinstance(error, SystemExit):
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    return 1
