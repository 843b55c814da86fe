"""From an error that a user can mend to one line on stderr and exit code 2."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_FAILED_TRIALS = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

try:
    from models.errors import ModelError
    from objectives.errors import ObjectiveError
    from storage.errors import StorageError
except ModuleNotFoundError as error:
    # `python -m` looks in the working directory first, and models.py is what anyone would call a file of models.
    room = str(error.name).partition(".")[0]
    hiding = getattr(sys.modules.get(room), "__file__", None) or f"a folder {room}"
    print(f"error: {hiding} hides a part of lm-search that is called {room}; give it another name", file=sys.stderr)
    raise SystemExit(EXIT_USAGE) from error


class UsageError(ValueError):
    """A wrong option, study file or study name; the message says which, the choices and the next step."""


class WorkersKeepDying(RuntimeError):
    """Workers end with an error again and again; the message has the last words of one and the place of its log."""


# The rooms do not know each other, so each has its own base class; this is the family.
USER_ERRORS = (UsageError, WorkersKeepDying, ModelError, ObjectiveError, StorageError)


@contextmanager
def user_errors() -> Iterator[None]:
    """What a program does: print an error of `USER_ERRORS` as one line and exit with 2."""
    try:
        yield
    except USER_ERRORS as error:
        print("error: " + " ".join(str(error).splitlines()), file=sys.stderr)
        raise SystemExit(EXIT_USAGE) from error
    finally:
        # What is left is to end, and the interpreter's last collections would walk through all of torch for a second.
        gc.freeze()
