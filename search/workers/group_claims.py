"""Which trials a worker trains at the same time: a number of one shape, or as many of any shape as the memory holds."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence

from search.storage.group_claims import WaitingRow, claim_chosen, live_workers, waiting_cells
from search.storage.leases import Lease
from search.storage.slots import cell_and_seed, is_empty_slot
from search.workers.devices import GPU_WORKERS
from search.workers.leased_trial import WorkerContext, WorkerStudy
from search.workers.user_code import UserCodeError

log = logging.getLogger("search.worker")


class GroupClaims:
    """Claims the further trials of a group.

    Args:
        context: What all trials of the worker need.
        studies: The studies by name.
        owner: The worker.
    """

    def __init__(self, context: WorkerContext, studies: Mapping[str, WorkerStudy], owner: str) -> None:
        self._context, self._studies, self._owner = context, studies, owner
        self._largest: dict[tuple[str, str], int] = {}  # after an error, by study and shape
        self._most: float = math.inf  # trials of a group of any shapes, after an error
        self._workers = int(os.environ.get(GPU_WORKERS, "1"))

    def more(self, first: Lease) -> list[Lease]:
        """Claim trials to train together with one that the worker holds alone.

        Raises:
            UserCodeError: The objective cannot say how many.
        """
        study = self._studies[first.study]
        if study.stack_runs is None or not first.shape_key:
            return []
        if (share := self._share(first.study, first.cell)) is not None:
            return self._of_any_shape(first, 1.0 - share)
        cell, _ = cell_and_seed(first.cell)
        with self._context.user_code.calling():
            size = study.group_size(cell, first.shape_key)
        size = min(size, self._largest.get((first.study, first.shape_key), size))
        return [] if size == 1 else self._context.queue.claim_alike([first], self._owner, size - 1)

    def _of_any_shape(self, first: Lease, free: float) -> list[Lease]:
        queue, names = self._context.queue, list(self._studies)
        waiting = waiting_cells(queue, names)
        # Others that are about to claim must find some too.
        live = max(self._workers, live_workers(queue, names))
        room = min(-(-(len(waiting) + 1) // live), self._most) - 1
        if room < 1:
            return []
        shares = {each: self._share(*each) for each in waiting}

        def choose(rows: Sequence[WaitingRow]) -> list[int]:
            chosen: list[int] = []
            left = free
            for row in rows:
                share = shares.get((row.study, row.cell))
                if len(chosen) < room and share is not None and share <= left:
                    chosen.append(row.id)
                    left -= share
            return chosen

        return claim_chosen(queue, names, [first], choose)

    def _share(self, study: str, cell: str) -> float | None:
        """The share of the memory that a trial takes; None for one that cannot join a group of any shapes."""
        share = self._studies[study].memory_share
        if share is None or is_empty_slot(cell):
            return None
        try:
            with self._context.user_code.calling():
                return share(cell_and_seed(cell)[0])
        except UserCodeError as error:  # its trial fails when it is claimed
            log.debug("no memory share for %s: %s", cell, error)
            return None

    def failed(self, leases: Sequence[Lease]) -> int:
        """Halve the groups to come, because a trial or a lack of memory has ended one.

        Args:
            leases: Those of the group.

        Returns:
            The number of trials that the next group has at most.
        """
        first, size = leases[0], max(1, len(leases) // 2)
        self._largest[first.study, first.shape_key] = self._most = size
        return size

    def succeeded(self) -> None:
        """Let groups of any shapes grow again: one trained to its end."""
        self._most *= 2
