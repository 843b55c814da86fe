"""The exit codes that `search.worker` chooses for what its loop ends with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from search.errors import ProcessSpoiled, UsageError
from search.run_worker import _work
from search.storage.errors import StorageUnavailable
from search.workers.worker_loop import Worker


@dataclass
class EndedWorker:
    """A worker whose loop ends at once."""

    end: bool | BaseException
    has_claimed: bool = True

    def run(self) -> bool:
        if isinstance(self.end, BaseException):
            raise self.end
        return self.end


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (True, 0),
        (False, 75),
        (ProcessSpoiled("CUDA"), 70),
        (StorageUnavailable("away for 600 s"), 75),
        (UsageError("the study was changed"), 75),
    ],
)
def test_after_the_first_claim(end: bool | BaseException, code: int) -> None:
    assert _work(cast(Worker, EndedWorker(end))) == code


def test_wrong_use_is_before_the_first_claim() -> None:
    with pytest.raises(UsageError, match="wrong"):
        _work(cast(Worker, EndedWorker(UsageError("wrong"), has_claimed=False)))


def test_a_bug_is_a_crash() -> None:
    with pytest.raises(AssertionError, match="a bug"):
        _work(cast(Worker, EndedWorker(AssertionError("a bug"))))
