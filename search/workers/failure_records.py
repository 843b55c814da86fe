"""What a worker records when a trial fails: the error, where it was raised, and the log to read."""

from __future__ import annotations

import os
import signal
import stat
import traceback
from pathlib import Path

from search.errors import USER_ERRORS
from search.objectives.command.errors import CommandFailed
from search.storage.failures import Failure
from search.storage.texts import error_text
from search.workers.trial_errors import TrialTimeout

FATAL_ERROR = "Fatal Python error"


def failure_of(error: BaseException) -> Failure:
    """The record of an error that ended an attempt; the database adds the attempt, the step and the time."""
    log = log_file()
    if isinstance(error, TrialTimeout):
        return Failure(error.kind, error_text(error), error.stack, log=log)
    if isinstance(error, CommandFailed):
        return Failure(
            "error", error_text(error), error.output or None, error.exit_status, error.signal, log=str(error.log)
        )
    # A traceback helps to find a bug, not a wrong value.
    lines = [] if isinstance(error, USER_ERRORS) else traceback.format_exception(error)
    return Failure("error", error_text(error), "".join(lines) or None, log=log)


def preemption() -> Failure:
    """The record of a trial whose worker was asked to stop."""
    return Failure("preempted", log=log_file())


def end_text(status: int) -> str:
    """How a process has ended: "SIGKILL", "exit code 3".

    Args:
        status: Its exit code; negative for a signal.
    """
    return signal.Signals(-status).name if status < 0 else f"exit code {status}"


def crash(status: int, output: str, log: str | None) -> Failure:
    """The record of a trial whose worker has crashed.

    Args:
        status: As for `end_text`.
        output: What the worker wrote.
        log: The file with it.
    """
    return Failure(
        "worker crashed",
        f"the worker ended with {end_text(status)}",
        reported_crash(output),
        exit_status=status if status >= 0 else None,
        signal=signal.Signals(-status).name if status < 0 else None,
        log=log,
    )


def log_file() -> str | None:
    """The file that this process writes its log to; None if its stderr is no file, or on a system without /proc."""
    try:
        return os.readlink("/proc/self/fd/2") if stat.S_ISREG(os.fstat(2).st_mode) else None
    except OSError:
        return None


def log_since(log: Path, start: int) -> str:
    """What a process wrote to a log that it shares with earlier ones; "" if the log cannot be read.

    Args:
        start: The size of the log when the process started.
    """
    try:
        with log.open("rb") as file:
            file.seek(start)
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def reported_crash(text: str) -> str | None:
    """What a crashed process wrote about its end: a traceback, or the stack that `faulthandler` wrote.

    Args:
        text: Its log.

    Returns:
        None without any.
    """
    starts = [text.rfind(mark) for mark in ("Traceback (most recent call last)", FATAL_ERROR, "Current thread")]
    first = min((start for start in starts if start >= 0), default=-1)
    return text[first:].strip() if first >= 0 else None


def last_line(text: str) -> str:
    """The line of a process's log that tells most about its end."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # After it, `faulthandler` lists the stack and all extension modules.
    fatal = next((line for line in reversed(lines) if line.startswith(FATAL_ERROR)), None)
    return fatal or (lines[-1] if lines else "no output")
