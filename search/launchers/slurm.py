"""Starts workers as the tasks of a SLURM array, which SLURM requeues and this program may outlive or not."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from search.errors import UsageError, WorkersKeepCrashing
from search.launchers.child_process import child_environment
from search.launchers.protocol import Places, WorkerJob
from search.launchers.settings import device_of, most_workers
from search.launchers.slurm_script import batch_script, read_slurm_settings
from search.storage.private_files import make_private_folder, open_private
from search.workers.failure_records import last_line, log_since

log = logging.getLogger("search.run")

POLL_S = 3.0
SUBMIT_AGAIN_S = 15.0
JOBS_FILE = "slurm-jobs.json"
# States of a task: it has failed; it has not ended.
FAILED = frozenset({"FAILED", "OUT_OF_MEMORY", "BOOT_FAIL"})
ALIVE = frozenset({"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED", "STOPPED", "RESIZING"})


class SlurmLauncher:
    """One SLURM array of workers, at most one task per waiting trial; more arrays when the queue grows.

    SLURM starts a task again after a preemption, a time limit or the end of its node. The workers go on if this program
    is killed: the same command finds them and watches them.

    Args:
        places: `workers` is the number of tasks; `devices` is "auto" (what SLURM gives a task), "cpu" or "cuda";
            `settings` are those of `search.launchers.slurm_script.SlurmSettings`.

    Raises:
        UsageError: SLURM is not installed here, or a setting is wrong.
    """

    def __init__(self, places: Places) -> None:
        self._settings = read_slurm_settings(places.settings)
        self._device = device_of(places, "SLURM", "gres picks the cards")
        self._most = most_workers(places)
        if places.starts:
            self._check_settings()
        self._jobs: list[str] = []
        self._alive = 0
        self._polled_at = self._submitted_at = 0.0

    def _check_settings(self) -> None:
        """Ask SLURM, before anything is planned, whether it would take a worker with these settings."""
        if shutil.which("sbatch") is None:
            raise UsageError("--launcher slurm: there is no sbatch on this machine; run it on a login node")
        script = batch_script(self._settings, 1, [], self._device, "search", Path.cwd())
        done = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UsageError(
                f"--launcher slurm: {_one_line(done.stderr)}; change [launcher], or --set launcher.KEY=VALUE"
            )

    @property
    def running(self) -> int:
        """The number of tasks that SLURM has not ended, pending ones included."""
        return self._alive

    def start(self, n: int, job: WorkerJob) -> None:
        """Submit at most one task for each of n trials, besides those of earlier starts that are still there."""
        self._job = job
        make_private_folder(job.log_folder)
        self._jobs = _read_jobs(job.log_folder)
        # Jobs that a stop has cancelled must not keep `tend` from submitting more.
        self._jobs = sorted(self._look())
        self._submit(min(n, self._most) - self._alive)

    def tend(self) -> None:
        """Look at the tasks every few seconds, and submit more if more trials wait than tasks are there.

        Raises:
            WorkersKeepCrashing: A task ended because its options are wrong, or crashed too often.
        """
        if time.monotonic() < self._polled_at + POLL_S:
            return
        self._look()
        missing = min(self._job.unfinished(), self._most) - self._alive
        # The check comes first: tasks that all refuse at once leave nothing that the run would wait for.
        if missing > 0 and self._may_submit() and time.monotonic() > self._submitted_at + SUBMIT_AGAIN_S:
            self._submit(missing)

    def preview(self, n: int, job: WorkerJob) -> str:
        """The batch script of n workers, or of as many as `--workers` allows."""
        number, logs = min(n, self._most), job.log_folder.absolute()
        return batch_script(self._settings, number, job.arguments, self._device, f"search-{job.study}", logs)

    def _submit(self, number: int) -> None:
        if number < 1:
            return
        logs = self._job.log_folder.absolute()
        with open_private(logs / "slurm-worker.sh", "wb") as file:
            file.write(self.preview(number, self._job).encode())
        environment = child_environment({"SEARCH_STORAGE": self._job.storage})
        command = ["sbatch", "--parsable", "--export=ALL", str(logs / "slurm-worker.sh")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise UsageError(f"--launcher slurm: sbatch refused the workers: {_one_line(done.stderr)}")
        self._jobs.append(done.stdout.strip().partition(";")[0])
        self._alive += number
        self._submitted_at = time.monotonic()
        with open_private(self._job.log_folder / JOBS_FILE, "wb") as file:
            file.write(json.dumps(self._jobs).encode())
        log.warning("SLURM job %s: %d workers; logs: %s", self._jobs[-1], number, logs)

    def _look(self) -> set[str]:
        """Count the tasks that have not ended; the count stays if SLURM does not answer.

        Returns:
            The jobs that they belong to; all jobs without an answer.
        """
        self._polled_at = time.monotonic()
        if not self._jobs:
            return set()
        command = ["squeue", "--noheader", "--array", "--format=%i %T", "--jobs", ",".join(self._jobs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            tasks = [line.split() for line in done.stdout.splitlines() if line.strip()]
            alive = [name.partition("_")[0] for name, state in tasks if state in ALIVE]
            self._alive = len(alive)
            return set(alive)
        if "invalid job id" in done.stderr.lower():  # SLURM has forgotten all of them
            self._alive = 0
            return set()
        log.info("squeue: %s", _one_line(done.stderr))
        return set(self._jobs)

    def _may_submit(self) -> bool:
        """Whether more tasks make sense: no task has failed, and none was cancelled."""
        for job in self._jobs:
            done = subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True)
            for line in done.stdout.splitlines():
                state = _field(line, "JobState")
                if state == "CANCELLED":
                    return False
                if state in FAILED:
                    file = Path(_field(line, "StdOut"))
                    said = last_line(log_since(file, 0))
                    ended = f"SLURM job {_field(line, 'JobId')} ended with exit code {_field(line, 'ExitCode')}"
                    raise WorkersKeepCrashing(f"{ended}: {said}; log: {file}")
        return True

    def detach(self) -> str:
        """Leave the workers to SLURM.

        Returns:
            How to look after them.
        """
        return f"SLURM job {', '.join(self._jobs)}: {self._alive} workers; squeue shows them, scancel ends them"

    def stop(self) -> None:
        """Cancel the tasks that are left; each hands its trial back."""
        if self._alive == 0:
            return
        subprocess.run(["scancel", *self._jobs], capture_output=True, check=False)
        deadline = time.monotonic() + 60.0
        while self._alive and time.monotonic() < deadline:
            time.sleep(0.5)
            self._look()


def _read_jobs(folder: Path) -> list[str]:
    """The jobs that earlier starts have submitted for this study."""
    try:
        found: Sequence[str] = json.loads((folder / JOBS_FILE).read_bytes())
    except (OSError, ValueError):
        return []
    return [str(job) for job in found]


def _field(line: str, name: str) -> str:
    """A value of a line of `scontrol --oneline show job`; "" if it is not there."""
    found = re.search(rf"(?:^| ){name}=(.*?)(?= \w+=|$)", line.rstrip())  # a path can have spaces
    return found[1] if found else ""


def _one_line(text: str) -> str:
    return " ".join(text.split()) or f"no message ({os.uname().nodename})"
