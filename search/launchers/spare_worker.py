"""A worker process that is started before its job is known: while the study is planned, it imports what it needs.

A worker imports for about as long as a run plans, so a run with it begins its first trial about twice as early.
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

from search.launchers.child_process import SPARE, child_command, child_environment
from search.objectives.registry import OBJECTIVES
from search.study.user_modules import resolve_objective
from search.workers.stop_signals import blocked_stop_signals

# What every worker imports after it has read its options.
_MODULES = ("search.workers.setup", "search.workers.profile")


class SpareWorker:
    """A process that waits for the job of a worker.

    Args:
        objective: A registered one is imported too, with torch if it trains with that.
        variables: Of the environment of the worker.
    """

    def __init__(self, objective: str, variables: Mapping[str, str]) -> None:
        with blocked_stop_signals():
            self._popen = subprocess.Popen(
                [*child_command("search.worker"), SPARE, objective],
                env=child_environment(variables),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

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
        assert self._popen.stdin is not None, "it was asked for"
        job = {"arguments": list(arguments), "variables": dict(variables), "log": str(log.absolute())}
        try:
            self._popen.stdin.write(json.dumps(job).encode() + b"\n")
            self._popen.stdin.close()
        except BrokenPipeError:
            self.close()
            return None
        return self._popen

    def close(self) -> None:
        """End a process that has no job."""
        if self._popen.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._popen.stdin.close()
        self._popen.kill()
        self._popen.wait()


def take_job() -> None:
    """Wait for a job and make this process the worker of that job; it ends if the run ends before."""
    for module in _MODULES:
        import_module(module)
    if sys.argv[2] in OBJECTIVES:
        resolve_objective(sys.argv[2]).prepare()
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        os._exit(0)
    job = json.loads(line)
    os.environ.update(job["variables"])
    log = os.open(job["log"], os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, target)
    os.close(log)
    os.close(nothing)
    sys.argv[1:] = job["arguments"]
