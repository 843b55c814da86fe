"""A program that a worker runs under a supervisor."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from search.objectives.command import supervisor

# What a supervisor needs besides the grace: SIGKILL, and the end of the processes.
MARGIN_S = 3.0
# Variables that lead to the database: those of libpq, and those of its container image.
_DATABASE = ("PG", "POSTGRES_")
# What the variables with the values of axes begin with.
VARIABLES = "SEARCH_PARAM_"


class Program:
    """A running program; its output is added to a log.

    Args:
        command: The program and its arguments.
        folder: Where it runs.
        environment: All its variables.
        log: The file for its output.
        lock: A file that no other attempt of the trial may have locked.
        grace_s: Time between SIGTERM and SIGKILL when it is stopped, in seconds.

    Raises:
        OSError: The log cannot be written.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        log: Path,
        lock: Path,
        grace_s: float,
    ) -> None:
        self._grace_s = grace_s
        with open(log, "ab", opener=private) as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", supervisor.__file__, str(grace_s), str(lock), *command],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                # Ctrl-C in a terminal, and the launcher after the death of a worker, would end the supervisor at once.
                start_new_session=True,
            )
        self.status: int | None = None
        self.error: str | None = None

    @property
    def pid(self) -> int:
        """The process id of the supervisor."""
        return self._popen.pid

    def has_ended(self) -> bool:
        """Whether the program has ended; `status` or `error` then says how."""
        if self._popen.poll() is None:
            return False
        if self.status is None and self.error is None:
            self._read_result()
        return True

    def stop(self) -> None:
        """End the program and everything that it has started, if it has not ended."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        try:
            self._popen.wait(self._grace_s + supervisor.KILL_WAIT_S + MARGIN_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self.has_ended()

    def _read_result(self) -> None:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.close()
        with self._popen.stdout as pipe:
            written = pipe.read()
        try:
            result = json.loads(written)
        except ValueError:
            result = {"error": f"its supervisor ended with {self._popen.returncode}"}
        self.status, self.error = result.get("status"), result.get("error")


def private(path: str, flags: int) -> int:
    """Open a new file so that other users of the machine cannot read it."""
    return os.open(path, flags | os.O_CLOEXEC, 0o660)


def variable(axis: str) -> str:
    """The environment variable with the value of an axis."""
    return VARIABLES + re.sub(r"\W", "_", axis).upper()


def program_environment(
    base: Mapping[str, str], own: Mapping[str, str], given: Mapping[str, str], device: str
) -> dict[str, str]:
    """The environment of a program: this process's without what leads to the database.

    Args:
        base: The worker's environment.
        own: What describes the trial.
        given: The study file's `env`.
        device: As torch names it in the worker.
    """
    storage = base.get("SEARCH_STORAGE")
    kept = {
        name: value
        for name, value in base.items()
        if not name.startswith(("SEARCH_", *_DATABASE)) and (not storage or storage not in value)
    }
    # Python writes to a file in blocks, and a metric would arrive late.
    kept.setdefault("PYTHONUNBUFFERED", "1")
    if device.startswith("cuda"):
        # ROCm's own variable decides where it is set.
        name = "HIP_VISIBLE_DEVICES" if base.get("HIP_VISIBLE_DEVICES") else "CUDA_VISIBLE_DEVICES"
        kept[name] = _visible(base.get(name, ""), device)
    return {**kept, **own, **given}


def _visible(named: str, device: str) -> str:
    number = int(device.partition(":")[2] or 0)
    among = [each.strip() for each in named.split(",")] if named else []
    return among[number] if number < len(among) else str(number)
