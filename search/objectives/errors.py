"""Errors of an objective that a user can fix. No torch here: the launcher catches these too."""

from __future__ import annotations


class ObjectiveError(ValueError):
    """A training run was asked for that cannot be started; the message says what to change."""


class CorpusError(ObjectiveError):
    """The training text is missing, unreadable, not text, or too short."""


class CheckpointError(ObjectiveError):
    """A saved run is damaged, or belongs to another run."""
