"""A worker process that is started before its job is known: while a run starts and plans, it imports what it needs.

A worker imports for about as long as a run does, so the first trial begins in about half the time. Nothing heavy is
imported here: a run starts the process before anything else. It sends one JSON line each for the devices, for what the
job will be, and for the job.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from search.imports import importing, importing_ours
from search.launchers.child_process import SPARE, child_command, child_environment
from search.workers.stop_signals import blocked_stop_signals

# What every worker imports after it has read its options.
_MODULES = ("search.workers.setup", "search.workers.profile")
# Options with which `run` starts no worker on this machine, or perhaps none.
_WITHOUT_WORKER = {"--help", "--version", "--plan-only", "--print", "--launcher", "--detach"}
_WITHOUT_WORKER |= {"--install-completion", "--show-completion"}
started_early: list[SpareWorker] = []


def start_early(arguments: Sequence[str]) -> None:
    """Start a process for the first worker before a run has read its options; `spare_worker` takes it.

    Args:
        arguments: The command line of `run`.
    """
    if _WITHOUT_WORKER.isdisjoint(each.partition("=")[0] for each in arguments):
        started_early.append(SpareWorker())


def spare_worker(devices: str) -> SpareWorker:
    """The process that was started early, or a new one.

    Args:
        devices: Of the run. Unless that is "cpu", the process imports torch at once where there may be a GPU: the run
            imports torch there to find out.
    """
    process = started_early.pop() if started_early else SpareWorker()
    process.tell_devices(devices)
    return process


def end_early() -> None:
    """End the process that was started early, if there is one: no worker will start on this machine."""
    while started_early:
        started_early.pop().end()


class SpareWorker:
    """A process that waits for the job of a worker; use it as a context, which ends it unless it has got one."""

    def __init__(self) -> None:
        self._has_job = False
        with blocked_stop_signals():
            self.popen = subprocess.Popen(
                [*child_command("search.worker"), SPARE],
                env=child_environment({}),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def __enter__(self) -> SpareWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the process unless it has got a job."""
        if not self._has_job:
            with contextlib.suppress(BrokenPipeError):
                self._pipe.close()
            self.popen.kill()
            self.popen.wait()

    def tell_devices(self, devices: str) -> None:
        """Say what `--devices` is."""
        self._send({"devices": devices})

    def expect(self, objective: str, device: str, variables: Mapping[str, str]) -> None:
        """Say what the job will be, so that more can be done before.

        Args:
            objective: A registered one is imported, and torch is set up if it trains with that.
            device: What torch calls the worker's device.
            variables: Of the environment of the worker. Where it is for a CPU and there may be a GPU, libraries have
                read too early how many threads they may use: the process ends, and another one will get the job.
        """
        from search.workers.devices import may_have_gpu

        if device == "cpu" and may_have_gpu():
            self.end()
        self._send({"objective": objective, "device": device, "variables": dict(variables)})

    def begin(
        self, arguments: Sequence[str], variables: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes] | None:
        """Give the process its job.

        Args:
            arguments: The command line of `python -m search.worker`.
            variables: Further ones of its environment.
            log: Where stdout and stderr go from now on; the file exists.

        Returns:
            The worker; None if the process has ended.
        """
        job = {"arguments": list(arguments), "variables": dict(variables), "log": str(log.absolute())}
        self._has_job = self._send(job)
        if not self._has_job:
            return None
        self._pipe.close()
        return self.popen

    @property
    def _pipe(self) -> Any:
        assert self.popen.stdin is not None, "it was asked for"
        return self.popen.stdin

    def _send(self, message: Mapping[str, Any]) -> bool:
        """Whether the process was there to get it."""
        if self._pipe.closed:
            return False
        try:
            self._pipe.write(json.dumps(message).encode() + b"\n")
            self._pipe.flush()
        except BrokenPipeError:
            return False
        return True


def take_job() -> None:
    """Wait for a job and make this process the worker of that job; it ends if the run ends before."""
    from search.workers.devices import CPU_VARIABLES, may_have_gpu

    if not may_have_gpu():
        os.environ.update(CPU_VARIABLES)  # before numpy reads them
    with importing_ours():
        for module in _MODULES:
            import_module(module)
    with importing():
        if _next_message()["devices"] != "cpu" and may_have_gpu():
            import_module("torch")
    expected = _next_message()
    os.environ.update(expected["variables"])
    _prepare(expected["objective"], expected["device"])
    job = _next_message()
    os.environ.update(job["variables"])
    log = os.open(job["log"], os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, target)
    os.close(log)
    os.close(nothing)
    sys.argv[1:] = job["arguments"]


def _next_message() -> Any:
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        os._exit(0)
    return json.loads(line)


def _prepare(objective: str, device: str) -> None:
    from search.objectives.registry import COMMAND, OBJECTIVES
    from search.study.user_modules import resolve_objective
    from search.workers.setup import prepare_process

    if objective in OBJECTIVES and objective != COMMAND:
        prepare_process(resolve_objective(objective), device)
