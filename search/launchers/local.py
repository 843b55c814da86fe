"""Worker processes of this machine: started, restarted when they die, stopped cleanly."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from search.errors import EXIT_USAGE, WorkersKeepCrashing
from search.launchers.child_process import child_command, child_environment
from search.workers.devices import WorkerSlot
from search.workers.worker_loop import new_owner_name

log = logging.getLogger("search.run")

# Workers that die so often one after the other, none of them holding a trial, will die again. What kills a worker
# in the middle of a trial may be that trial, which has attempts of its own.
MAX_DEATHS_IN_A_ROW = 3
STOP_GRACE_S = 30.0


@dataclass
class _Process:
    slot: WorkerSlot
    owner: str
    popen: subprocess.Popen[bytes]
    log_file: Path


@dataclass
class Launcher:
    """The workers of one run.

    Attributes:
        slots: One worker each.
        arguments: Command line of `python -m search.worker`, without what differs between workers.
        storage: The storage URL; handed over in the environment, where `ps` does not show its password.
        log_folder: Gets one log file a worker.
        on_death: Told the owner name of a worker that is known to be dead, so that its trial need not wait for
            its lease to expire; says how many trials it held.
    """

    slots: Sequence[WorkerSlot]
    arguments: Sequence[str]
    storage: str
    log_folder: Path
    on_death: Callable[[str], int]
    deaths_in_a_row: int = 0
    _processes: list[_Process] = field(default_factory=list)

    def start(self) -> None:
        """Start one worker per slot."""
        self.log_folder.mkdir(parents=True, exist_ok=True)
        for slot in self.slots:
            self._processes.append(self._spawn(slot))

    def _spawn(self, slot: WorkerSlot) -> _Process:
        log_file = self.log_folder / f"worker-{slot.label}.log"
        owner = new_owner_name(slot.label)
        command = [*child_command("search.worker"), *self.arguments, "--device", slot.device, "--owner", owner]
        environment = child_environment({**slot.environment, "SEARCH_STORAGE": self.storage})
        with log_file.open("ab") as output:
            popen = subprocess.Popen(
                [*command, "--parent", str(os.getpid())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C goes to every process of a terminal's group; the workers are stopped by us, in order.
                start_new_session=True,
            )
        return _Process(slot, owner, popen, log_file)

    @property
    def running(self) -> int:
        """How many workers are alive."""
        return sum(process.popen.poll() is None for process in self._processes)

    def tend(self) -> None:
        """Restart workers that died; called every second or so.

        Raises:
            WorkersKeepCrashing: They die without ever holding a trial, or of wrong use.
        """
        for process in list(self._processes):
            status = process.popen.poll()
            if status is None:
                continue
            self._processes.remove(process)
            if status == 0:
                continue
            self.deaths_in_a_row = 0 if self.on_death(process.owner) else self.deaths_in_a_row + 1
            said = _last_line(process.log_file)
            if status == EXIT_USAGE or self.deaths_in_a_row >= MAX_DEATHS_IN_A_ROW * len(self.slots):
                raise WorkersKeepCrashing(
                    f"worker {process.slot.label} ended with {_status(status)}: {said}; its log is {process.log_file}"
                )
            log.warning("worker %s ended with %s (%s); restarting it", process.slot.label, _status(status), said)
            self._processes.append(self._spawn(process.slot))

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Have the workers hand their trials back and end; those that do not are killed after `grace_s` seconds."""
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
                self.on_death(process.owner)
        self._processes.clear()


def _status(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit code {status}"


def _last_line(path: Path) -> str:
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"
