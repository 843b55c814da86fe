"""Starts no workers: the run plans, watches and reports, and others start its workers."""

from __future__ import annotations

import logging
import shlex
import time

from search.errors import UsageError
from search.hints import command_of
from search.launchers.protocol import Places, WorkerJob

log = logging.getLogger("search.run")

POLL_S = 2.0


class ExternalLauncher:
    """Waits for workers that are started by hand, by a container or by a cluster, until no trial is left.

    Args:
        places: `workers` is "auto".

    Raises:
        UsageError: `places` asks for workers.
    """

    def __init__(self, places: Places) -> None:
        if places.workers != "auto":
            raise UsageError(f"--workers {places.workers}: --launcher external starts none; leave --workers out")
        self._unfinished = 0
        self._polled_at = 0.0

    @property
    def running(self) -> int:
        """1 while trials are left, and then 0."""
        return int(self._unfinished > 0)

    def start(self, n: int, job: WorkerJob) -> None:
        """Say what starts a worker."""
        self._job, self._unfinished = job, n
        command = f"{command_of('worker')} {shlex.join(job.arguments)}"
        log.warning("waiting for workers; with SEARCH_STORAGE set, one is started by: %s", command)

    def tend(self) -> None:
        """Ask every few seconds whether trials are left."""
        if time.monotonic() >= self._polled_at + POLL_S:
            self._polled_at = time.monotonic()
            self._unfinished = self._job.unfinished()

    def stop(self) -> None:
        """Do nothing: others have started the workers."""
