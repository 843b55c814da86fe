"""When a worker looks for further seeds of its studies."""

from __future__ import annotations

from collections.abc import Collection

from search.storage.queue import TrialQueue
from search.workers.leased_trial import WorkerStudy


class MoreSeeds:
    """Plans further seeds of studies where the results ask for them.

    Args:
        studies: The studies of a worker.
        queue: Its queue.
    """

    def __init__(self, studies: Collection[WorkerStudy], queue: TrialQueue) -> None:
        self._planners = [study.plan_seeds for study in studies if study.plan_seeds is not None]
        self._queue = queue
        self._unfinished: int | None = None

    def trained(self) -> None:
        """The worker has trained a trial, so that the next look may find something new."""
        self._unfinished = None

    def plan(self, names: Collection[str], unfinished: int) -> bool:
        """Whether there are more trials now, planned by this worker or by another.

        Args:
            names: The studies' names.
            unfinished: The number of trials that have not ended. For a worker without a trial of its own nothing has
                changed while it stays the same.
        """
        if not self._planners or unfinished == self._unfinished:
            return False
        self._unfinished = unfinished
        added = sum(plan() for plan in self._planners)
        return added > 0 or self._queue.unfinished(list(names)) > unfinished
