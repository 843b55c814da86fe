"""Errors of a database or an artifact folder that a user can fix, and the error of a lost lease."""

from __future__ import annotations


class StorageError(RuntimeError):
    """A storage error in one line: what is wrong and what to do next, without passwords."""


class StorageUnavailable(StorageError):
    """The database did not answer within the waiting time."""


class NoStudyYet(StorageError):
    """The database or its file does not exist yet, or has none of our tables."""


class LeaseLost(Exception):
    """The lease is no longer valid: this worker must discard everything it holds of the trial."""
