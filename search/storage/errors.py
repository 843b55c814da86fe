"""What can go wrong with a database or an artifact folder that a user can fix."""

from __future__ import annotations


class StorageError(RuntimeError):
    """One line that says what is wrong with the storage and what to do next; never holds a password."""


class StorageUnavailable(StorageError):
    """The database did not answer for as long as we were told to wait."""


class NoStudyYet(StorageError):
    """The database, or its file, is not there yet or has none of our tables."""


class LeaseLost(Exception):
    """The trial went on elsewhere: whatever this worker still has of it must be thrown away."""
