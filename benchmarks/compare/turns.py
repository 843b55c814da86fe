"""Programs that take turns on one machine, so that all of them meet the same changes of its speed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
_LOOK_S = 0.01


@dataclass(frozen=True)
class Program:
    """A program that takes turns with others.

    Attributes:
        arguments: Of the Python interpreter; the program runs in the folder of this repository.
        text: What it reads from its standard input.
        turn_s: How long it runs before the next one's turn.
    """

    arguments: Sequence[str]
    text: str = ""
    turn_s: float = inf

    def start(self) -> subprocess.Popen[str]:
        """Start it; what it prints is no part of a benchmark's page."""
        command = [sys.executable, *self.arguments]
        popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=ROOT)
        assert popen.stdin is not None
        popen.stdin.write(self.text)
        popen.stdin.close()
        return popen


@dataclass
class Ran:
    """What a program took: only its turns count.

    Attributes:
        cpu_s: Seconds of all cores, those of its child processes included.
        turns: Begin and end of each, in seconds since 1970.
    """

    cpu_s: float = 0.0
    turns: list[tuple[float, float]] = field(default_factory=list)

    @property
    def wall_s(self) -> float:
        """Seconds of its turns together."""
        return sum(end - begin for begin, end in self.turns)

    def active_s(self, begin: datetime, end: datetime) -> float:
        """Seconds of its turns between two moments."""
        first, last = begin.timestamp(), end.timestamp()
        return sum(max(0.0, min(last, its_end) - max(first, its_begin)) for its_begin, its_end in self.turns)


def take_turns(programs: Mapping[str, Program], between: Callable[[], object] = lambda: None) -> dict[str, Ran]:
    """Run programs, of which one works at a time: the others, with their child processes, are stopped by SIGSTOP.

    Args:
        programs: By name; each gets its turn, then `between` is called, until all have ended.
        between: Called while all programs are stopped.

    Raises:
        RuntimeError: A program failed. The others are terminated.
    """
    running = {name: _Running(program) for name, program in programs.items()}
    try:
        while waiting := [each for each in running.values() if not each.has_ended]:
            for each in waiting:
                each.take_turn()
                between()
    finally:
        for each in running.values():
            each.close()
    return {name: each.ran for name, each in running.items()}


class _Running:
    def __init__(self, program: Program) -> None:
        self.ran, self.has_ended = Ran(), False
        self._program = program
        self._popen: subprocess.Popen[str] | None = None
        self._stopped: list[psutil.Process] = []

    def take_turn(self) -> None:
        began, clock_began = time.time(), time.monotonic()
        if self._popen is None:
            self._popen = self._program.start()
        self._resume()
        while not self._look() and time.monotonic() - clock_began < self._program.turn_s:
            time.sleep(_LOOK_S)
        if not self.has_ended:
            self._stop(psutil.Process(self._popen.pid))
        self.ran.turns.append((began, began + time.monotonic() - clock_began))

    def close(self) -> None:
        """End the program if it still runs."""
        if self._popen is not None and not self.has_ended:
            self._popen.terminate()
            self._resume()
            self._popen.wait()

    def _look(self) -> bool:
        """Whether the program has ended; what it used is known only to the one who waits for it."""
        assert self._popen is not None
        pid, status, used = os.wait4(self._popen.pid, os.WNOHANG)
        if pid:
            self.has_ended = True
            self._popen.returncode = os.waitstatus_to_exitcode(status)
            self.ran.cpu_s = used.ru_utime + used.ru_stime
            if self._popen.returncode:
                words = " ".join(self._program.arguments)
                raise RuntimeError(f"{words}: it ended with exit code {self._popen.returncode}; see its messages above")
        return self.has_ended

    def _stop(self, process: psutil.Process) -> None:
        with suppress(psutil.NoSuchProcess):
            process.suspend()  # before its children are listed: it starts no more of them
            self._stopped.append(process)
            for child in process.children():
                self._stop(child)

    def _resume(self) -> None:
        for process in self._stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()
        self._stopped.clear()
