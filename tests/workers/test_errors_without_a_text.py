"""An error of a study's own code can have any text, or none; the trial fails with its name."""

from __future__ import annotations

import pytest

from search.storage.failures import Failure
from search.storage.texts import error_text
from search.workers.trial_errors import is_spoiling, is_transient
from search.workers.user_code import UserCodeError


class MuteError(RuntimeError):
    """An error whose message cannot be read."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("error", [MuteError(), ValueError("a\0b\ud800\n" + "x" * 10**6), SystemExit(2)])
def test_any_error_is_recorded(error: BaseException) -> None:
    assert UserCodeError(error).error is error
    assert error_text(error).startswith(type(error).__name__)
    assert len(error_text(error)) <= 500
    assert not is_transient(error)
    assert not is_spoiling(error)
    failure = Failure("error", error=error_text(error), traceback="a\0b\ud800")
    read = Failure.from_json(failure.to_json())
    assert read is not None
    assert read.traceback == "a\\x00b\\ud800"
