"""Errors of an objective that a user can fix. No torch here: the launcher catches these too."""

from __future__ import annotations

from collections.abc import Sequence


class ObjectiveError(ValueError):
    """A training run cannot be started; the message explains what to change."""


class UnknownAxesError(ObjectiveError):
    """A cell has axes that nothing of its objective takes.

    Args:
        axes: Their names.
    """

    def __init__(self, message: str, axes: Sequence[str]) -> None:
        super().__init__(message)
        self.axes = axes


class CorpusError(ObjectiveError):
    """The training text is missing, unreadable, not text, or too short."""


class CheckpointError(ObjectiveError):
    """A checkpoint is damaged, or belongs to another run."""


class CaptureFailed(RuntimeError):
    """A CUDA graph could not be captured, and with it torch's stream and allocator: the process can train no further
    trial, but another one can."""
