"""Ends a worker process whose trial does not come back: after a time limit, or after a request to stop."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence

from search.errors import EXIT_SPOILED, EXIT_STOPPED
from search.storage.leases import Lease
from search.workers.failure_records import preemption
from search.workers.leased_trial import WorkerContext, WorkerStudy, release_or_fail
from search.workers.process_end import end_at_once
from search.workers.trial_errors import TrialTimeout

log = logging.getLogger("search.worker")

POLL_S = 0.25
# A trial should look at a stop request after each step. One that waits for another program or lock never does, and its
# last checkpoint is all that is left to keep.
STOP_GRACE_S = 5.0
# What may take longer is a checkpoint that is being written. Schedulers kill 30 s after they asked.
MAX_STOP_S = 20.0
RELEASE_S = 3.0
# A program's log is kept then, perhaps in a bucket.
FAIL_S = 10.0


class Watchdog:
    """Watches the main thread of a worker from a thread of its own; the end of the process ends the main thread too.

    Args:
        context: What the trials of the worker need.
        studies: The worker's studies, by name.
        stop: Set when the worker was asked to stop.
        leases: Returns the leases that the worker holds.
    """

    def __init__(
        self,
        context: WorkerContext,
        studies: Mapping[str, WorkerStudy],
        stop: threading.Event,
        leases: Callable[[], Sequence[Lease]],
    ) -> None:
        self._context, self._studies, self._stop, self._leases = context, studies, stop, leases
        self._main = threading.get_ident()
        self._done = threading.Event()

    def __enter__(self) -> None:
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def _watch(self) -> None:
        before, stopping_s, stuck_s = time.monotonic(), 0.0, 0.0
        user_code = self._context.user_code
        while not self._done.wait(POLL_S):
            now = time.monotonic()
            # If this process was suspended in between, that time does not count.
            passed_s, before = min(now - before, 2 * POLL_S), now
            if user_code.is_training:
                user_code.training_s += passed_s
                user_code.silent_s += passed_s
            if self._stop.is_set():
                stopping_s += passed_s
                stuck_s = stuck_s + passed_s if user_code.is_training else 0.0
                if stuck_s > STOP_GRACE_S or stopping_s > MAX_STOP_S:
                    self._release_all()
                    self._end_process(EXIT_STOPPED)
            elif (error := self._overdue()) is not None:
                self._fail_all(error)
                self._end_process(EXIT_SPOILED)

    def _overdue(self) -> TrialTimeout | None:
        limits, user_code = self._context.limits, self._context.user_code
        if 0 < limits.trial_timeout_s < user_code.training_s:
            message = f"trained for longer than {limits.trial_timeout_s:g} s (trial_timeout_s)"
            # With results it is too slow, and would be again; without any it seems to hang.
            return TrialTimeout("timeout", message, may_retry=not user_code.has_evaluated, stack=self._stack())
        if 0 < limits.stall_timeout_s < user_code.silent_s:
            message = f"neither stepped nor reported for longer than {limits.stall_timeout_s:g} s (stall_timeout_s)"
            return TrialTimeout("stalled", message, may_retry=True, stack=self._stack())
        return None

    def _stack(self) -> str:
        return "".join(traceback.format_stack(sys._current_frames().get(self._main)))

    def _release_all(self) -> None:
        log.warning("the trial did not stop; putting it back into the queue as of its last checkpoint")
        self._for_each_lease(lambda lease: self._context.queue.release(lease, failure=preemption()), RELEASE_S)

    def _fail_all(self, error: TrialTimeout) -> None:
        log.error("%s; it is here:\n%s", error, error.stack)
        self._for_each_lease(
            lambda lease: release_or_fail(self._context, lease, self._studies[lease.study], error), FAIL_S
        )

    def _for_each_lease(self, act: Callable[[Lease], object], within_s: float) -> None:
        def act_on_all() -> None:
            for lease in self._leases():
                act(lease)

        # In a thread: a silent connection must not keep the process alive. Its leases expire.
        self._context.user_code.must_end = self._context.user_code.is_training
        thread = threading.Thread(target=act_on_all, name="release", daemon=True)
        thread.start()
        thread.join(within_s)

    def _end_process(self, code: int) -> None:
        if not self._done.is_set():
            end_at_once(code)
