"""Errors of an objective that a user can fix. No torch here: the launcher catches these too."""

from __future__ import annotations


class ObjectiveError(ValueError):
    """A training run cannot be started; the message explains what to change."""


class CorpusError(ObjectiveError):
    """The training text is missing, unreadable, not text, or too short."""


class CheckpointError(ObjectiveError):
    """A checkpoint is damaged, or belongs to another run."""
