"""Starts worker processes on this machine, restarts those that crash, and stops them cleanly."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search.errors import EXIT_SPOILED, EXIT_STOPPED, EXIT_USAGE, WorkersKeepCrashing
from search.launchers.child_process import child_command, child_environment
from search.launchers.protocol import Places, WorkerJob
from search.launchers.spare_worker import SpareWorker
from search.storage.errors import StorageUnavailable
from search.storage.leases import new_owner_name
from search.storage.private_files import make_private_folder, open_private
from search.workers.child_processes import stop_processes_of
from search.workers.devices import WorkerSlot, worker_slots
from search.workers.failure_records import crash, end_text, last_line, log_since
from search.workers.stop_signals import blocked_stop_signals

log = logging.getLogger("search.run")

# Crashes in a row per worker, none with a trial, after which more restarts are useless. A crash with a trial does not
# count: the trial may have caused it, and its attempts are limited.
MAX_CRASHES_IN_A_ROW = 3
STOP_GRACE_S = 30.0


@dataclass
class _Process:
    slot: WorkerSlot
    owner: str
    popen: subprocess.Popen[bytes]
    log_file: Path
    log_start: int  # the size of the log when the process started

    def log(self) -> str:
        return log_since(self.log_file, self.log_start)


class LocalLauncher:
    """Worker processes on this machine: one per GPU, or per core, unless their number is given.

    Args:
        places: Which devices and how many workers to use.

    Raises:
        UsageError: A device does not exist, or the number of workers is invalid.
    """

    def __init__(self, places: Places) -> None:
        self._slots: Sequence[WorkerSlot] = worker_slots(places.devices, places.workers)
        self._processes: list[_Process] = []
        self._crashes_in_a_row = 0
        self._spare: SpareWorker | None = None

    def prepare(self, objective: str, spare: SpareWorker) -> None:
        """Let the process of the first worker import what it needs."""
        spare.expect(objective, self._slots[0].device, self._slots[0].environment)
        self._spare = spare

    def start(self, n: int, job: WorkerJob) -> None:
        """Start one worker per slot, at most `n`."""
        self._slots, self._job = self._slots[:n], job
        make_private_folder(job.log_folder)
        for slot in self._slots:
            self._processes.append(self._spawn(slot))

    def _spawn(self, slot: WorkerSlot) -> _Process:
        log_file = self._job.log_folder / f"worker-{slot.label}.log"
        owner = new_owner_name(slot.label)
        arguments = [*self._job.arguments, "--device", slot.device, "--owner", owner, "--parent", str(os.getpid())]
        variables = {"SEARCH_STORAGE": self._job.storage}
        spare, self._spare = self._spare, None
        # A signal that arrives before the worker has its handlers waits for them.
        with open_private(log_file, "ab") as output, blocked_stop_signals():
            log_start = output.tell()
            popen = None if spare is None else spare.begin(arguments, variables, log_file)
            popen = popen or subprocess.Popen(
                [*child_command("search.worker"), *arguments],
                env=child_environment({**slot.environment, **variables}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C reaches every process of a terminal's group, but `stop` must end the workers in order.
                start_new_session=True,
            )
        return _Process(slot, owner, popen, log_file, log_start)

    @property
    def running(self) -> int:
        """The number of workers that are alive, or whose end `tend` has not seen: it may start another one."""
        return len(self._processes)

    def tend(self) -> None:
        """Restart workers that crashed; called about once a second.

        Raises:
            WorkersKeepCrashing: Workers crash again and again without a trial, or refuse their options.
        """
        for process in list(self._processes):
            status = process.popen.poll()
            if status is None:
                continue
            self._processes.remove(process)
            held = self._after_end(process)
            if status == 0 and not held:
                continue
            self._check_end(process, status, held)
            self._processes.append(self._spawn(process.slot))

    def _after_end(self, process: _Process) -> int:
        """Release what an ended worker held and stop the programs that its trials have left.

        Returns:
            The number of trials that it held.
        """
        stop_processes_of(process.popen.pid)
        try:
            record = crash(process.popen.returncode, process.log(), str(process.log_file.absolute()))
            return self._job.on_death(process.owner, record)
        except StorageUnavailable as error:
            log.warning("cannot release the trials of worker %s; their leases expire (%s)", process.slot.label, error)
            return 0

    def _check_end(self, process: _Process, status: int, held: int) -> None:
        """Log why a worker ended before the study, and whether it makes sense to start another one.

        A worker that ends with a trial has crashed, whatever its exit code: the trial's own code can choose that.
        """
        name, line = f"worker {process.slot.label}", last_line(process.log())
        if not held and status == EXIT_STOPPED:
            log.warning("%s was stopped from outside (%s); starting another one", name, line)
            return
        if not held and status == EXIT_SPOILED:
            log.warning("%s can train no further trial (%s); starting another one", name, line)
            return
        self._crashes_in_a_row = 0 if held else self._crashes_in_a_row + 1
        ended = f"{name} ended with {end_text(status)}"
        too_often = self._crashes_in_a_row >= MAX_CRASHES_IN_A_ROW * len(self._slots)
        if too_often or (status == EXIT_USAGE and not held):
            raise WorkersKeepCrashing(f"{ended}: {line}; log: {process.log_file}")
        log.warning("%s (%s); restarting it", ended, line)

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Ask the workers to release their trials and end; kill those that have not ended after `grace_s` seconds."""
        for process in self._processes:
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(max(0.0, deadline - time.monotonic()))
        for process in self._processes:
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()
            self._after_end(process)
        self._processes.clear()
