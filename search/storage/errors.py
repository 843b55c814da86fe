"""Errors of a database or an artifact folder that a user can fix, and the error of a lost lease."""

from __future__ import annotations

import sys


class StorageError(RuntimeError):
    """A storage error in one line: what is wrong and what to do next, without passwords."""


class StorageUnavailable(StorageError):
    """The database did not answer within the waiting time."""


class NoStudyYet(StorageError):
    """The database or its file does not exist yet, or has none of our tables."""


class LeaseLost(Exception):
    """The lease is no longer valid: this worker must discard everything it holds of the trial."""


class EndedElsewhere(LeaseLost):
    """Another program, such as the dashboard, has ended the trial; its end is kept."""


def unexpected_answer(error: BaseException) -> str | None:
    """The line for an error of the database that none of our modules expects; None for any other error."""
    library = sys.modules.get("sqlalchemy.exc")
    cause: BaseException | None = error
    while cause is not None and not (library and isinstance(cause, library.SQLAlchemyError)):
        cause = cause.__cause__  # Optuna wraps them
    if cause is None:
        return None
    first = (str(getattr(cause, "orig", None) or cause).strip().splitlines() or [type(cause).__name__])[0]
    return (
        f"the database answered: {first}; if no other program has changed the tables, this is a bug of lm-search: "
        "please report it with the version that --version prints"
    )
