"""Counts what the trials of a worker take, and says when the budget of their study is spent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from search.objectives.counted_runs import CountsFlops
from search.storage.database import Database
from search.storage.spending import Budget, Spent, budget_of, count_spending, settle_budget, spent_by, spent_of_worker

log = logging.getLogger("search.worker")

# How often a busy worker stores its count, at a claim and in the middle of its trials; in seconds.
CLAIM_COUNT_S, COUNT_S = 1.0, 5.0
# How long a worker that is not heard of is taken to go on.
ALIVE_S = 2 * COUNT_S
# How often a worker looks whether a run has changed the budget, and while that is spent.
LOOK_S, SPENT_LOOK_S = 1.0, 5.0


@dataclass
class Spending:
    """What one worker takes for a study and its siblings.

    Attributes:
        uids: Their plannings by name, the study's own first.
        owner: The name of the worker.
        has_ended: Set it when the worker ends.
    """

    database: Database
    uids: Mapping[str, str]
    owner: str
    has_ended: threading.Event = field(default_factory=threading.Event)
    _seconds: float = 0.0
    _flops: float = 0.0
    _counted: dict[int, float] = field(default_factory=dict)  # the operations of a run that are known or not ours
    _busy_since: float | None = None
    _has_uncounted: bool = False
    _before: Spent | None = None
    _counted_at: float = 0.0
    _looked_at: float | None = None
    _settled_at: float | None = None
    _budget: Budget | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def keep_counting(self) -> None:
        """Store what the worker has taken, again and again, while it is busy; for a thread of its own."""
        while not self.has_ended.wait(COUNT_S):
            try:
                with self._lock:
                    if self._busy_since is not None:
                        self.count()
            except Exception as error:  # the thread must survive any error: the next count may succeed
                log.warning("cannot store what the trials take: %s", error)

    def claimed(self, has_trials: bool, asked_at: float | None = None) -> None:
        """The worker has claimed trials, or there were none for it.

        Args:
            asked_at: When it asked for them, as `time.monotonic` counts: a trial begins before the worker has the
                answer. None stands for now.
        """
        now = time.monotonic()
        # What came before is rather an outage of the database than time of the trial.
        began = now if asked_at is None else max(asked_at, now - ALIVE_S)
        self._settled_at = None if has_trials else self._settled_at
        with self._lock:
            if has_trials == (self._busy_since is not None):
                if has_trials and time.monotonic() - self._counted_at >= CLAIM_COUNT_S:
                    self.count()
                return
            self._advance()
            self._busy_since = began if has_trials else None
            self.count()

    def count(self) -> None:
        """Store what the worker has taken until now."""
        with self._lock:
            if self._before is None:
                if self._busy_since is None:
                    return
                # A cluster may start a worker again under its name.
                self._before = spent_of_worker(self.database, self._uid, self.owner)
            self._advance()
            total = Spent(self._before.seconds + self._seconds, self._before.flops + self._flops)
            busy_s = None if self._busy_since is None else ALIVE_S
            count_spending(self.database, self._uid, self.owner, total, busy_s)
            self._counted_at = time.monotonic()

    def _advance(self) -> None:
        if self._busy_since is not None:
            now = time.monotonic()
            self._seconds += now - self._busy_since
            self._busy_since = now

    def begun(self, run: object) -> None:
        """A run begins, or goes on where an earlier attempt was."""
        if isinstance(run, CountsFlops):
            # Counting takes a moment, and nothing was done at step 0.
            self._counted[id(run)] = (run.count_flops() or 0.0) if run.curve else 0.0

    def trained(self, run: object) -> None:
        """A run was trained further; a budget of time needs no count before its end."""
        if self._budget is not None and self._budget.unit == "flops":
            self._add(run)

    def ended(self, run: object) -> None:
        """This worker is done with a run."""
        self._add(run)
        self._counted.pop(id(run), None)

    def _add(self, run: object) -> None:
        if isinstance(run, CountsFlops) and id(run) in self._counted:
            total = run.count_flops()
            if total is None:
                self._note_uncounted()
                return
            self._flops += total - self._counted[id(run)]
            self._counted[id(run)] = total

    def _note_uncounted(self) -> None:
        if not self._has_uncounted and self._budget is not None and self._budget.unit == "flops":
            log.warning("trials whose model's operations cannot be counted take nothing of the budget")
            self._has_uncounted = True

    def is_spent(self) -> bool:
        """Whether no further trial may begin; those that no worker has begun are then left out."""
        now = time.monotonic()
        # Idle workers ask again and again, while the last trials go on to their end.
        if self._settled_at is not None and now - self._settled_at < SPENT_LOOK_S:
            return True
        if self._looked_at is None or now - self._looked_at >= LOOK_S:
            self._budget, self._looked_at = budget_of(self.database, self._uid), now
        if self._budget is not None and self._budget.unit == "flops":
            self.count()
        if self._budget is None or not spent_by(self.database, [*self.uids.values()]).has_reached(self._budget):
            return False
        self._looked_at = None
        is_spent = settle_budget(self.database, *self.uids)
        self._settled_at = now if is_spent else None
        return is_spent

    @property
    def _uid(self) -> str:
        return next(iter(self.uids.values()))
