"""Errors that a user can fix, and how a program reports them: one line on stderr, exit code 2."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from search.models.errors import ModelError
from search.objectives.errors import ObjectiveError
from search.storage.errors import StorageError, unexpected_answer
from search.storage.texts import printable, storable_text
from search.streams import write_line

log = logging.getLogger("search")

EXIT_FAILED_TRIALS = 1
EXIT_USAGE = 2
EXIT_SPOILED = 70
EXIT_STOPPED = 75
EXIT_INTERRUPTED = 130
MAX_MESSAGE = 4_000


class UsageError(ValueError):
    """A wrong option, study file or study name; the message says which, the choices and the next step."""


class WorkersKeepCrashing(RuntimeError):
    """Workers crash repeatedly; the message has the last output of one of them and the path of its log."""


class ProcessSpoiled(RuntimeError):
    """This worker process can train no further trial, but another one can."""


# models, objectives and storage do not import each other, so each has its own base class.
USER_ERRORS = (UsageError, WorkersKeepCrashing, ModelError, ObjectiveError, StorageError)


def message_of(error: BaseException) -> str:
    """What an error says, in one line of at most `MAX_MESSAGE` characters."""
    return printable(" ".join(storable_text(error, None).splitlines()), MAX_MESSAGE)


@contextmanager
def user_errors() -> Iterator[None]:
    """Wrap a program: print an error of `USER_ERRORS` as one line and exit with code 2."""
    try:
        yield
    except USER_ERRORS as error:
        write_line(f"error: {message_of(error)}", sys.stderr)
        raise SystemExit(EXIT_USAGE) from error
    except Exception as error:
        if (answer := unexpected_answer(error)) is None:
            raise
        log.info("unexpected error of the database", exc_info=error)  # in the log of a worker
        write_line(f"error: {message_of(UsageError(answer))}", sys.stderr)
        raise SystemExit(EXIT_USAGE) from error
    finally:
        # The process is about to exit, and its last garbage collections would spend a second on torch's objects.
        gc.freeze()
