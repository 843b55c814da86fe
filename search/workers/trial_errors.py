"""What an error says about a trial and about this process."""

from __future__ import annotations

import errno
from typing import Literal

from search.errors import ProcessSpoiled, UsageError
from search.objectives.command.errors import CommandFailed
from search.objectives.errors import CaptureFailed, ObjectiveError
from search.storage.texts import error_text, storable_text
from search.workers.user_code import UserCodeError


class TrialTimeout(Exception):
    """An attempt was ended because of a time limit of its study.

    Attributes:
        kind: Which limit it was.
        may_retry: Whether another attempt may end in time.
        stack: Where the trial was.
    """

    def __init__(self, kind: Literal["timeout", "stalled"], message: str, *, may_retry: bool, stack: str) -> None:
        super().__init__(message)
        self.kind, self.may_retry, self.stack = kind, may_retry, stack


def cause_of(error: BaseException) -> BaseException:
    """What a study's own code raised, or the error itself."""
    return error.error if isinstance(error, UserCodeError) else error


def is_transient(error: BaseException) -> bool:
    """Whether a retry, perhaps by another worker, may avoid the error: lack of memory or disk space, for example."""
    if isinstance(error, (ObjectiveError, UsageError)) and isinstance(error.__cause__, OSError):
        return is_transient(error.__cause__)
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EIO}
    if isinstance(error, (TrialTimeout, CommandFailed)):
        return error.may_retry
    return isinstance(error, MemoryError) or _is_out_of_memory(error) or is_spoiling(error)


def is_spoiling(error: BaseException) -> bool:
    """Whether no trial can be trained in this process any more: after an error in a kernel, every CUDA call fails."""
    if _is_out_of_memory(error) or not isinstance(error, RuntimeError):
        return False
    return (
        isinstance(error, CaptureFailed)
        or type(error).__name__ == "AcceleratorError"
        or any(name in storable_text(error) for name in ("CUDA error", "HIP error"))
    )


def end_if_spoiled(error: BaseException) -> None:
    """Raise ProcessSpoiled if an error has spoiled this process."""
    if is_spoiling(cause := cause_of(error)):
        said = error_text(cause)
        raise ProcessSpoiled(f"an error of the GPU ends this process, another one can go on: {said}") from error


def _is_out_of_memory(error: BaseException) -> bool:
    # By name: this module must not import torch, which the objective may not need.
    return type(error).__name__ == "OutOfMemoryError"
