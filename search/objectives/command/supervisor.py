"""Runs one program; ends it and all its descendants on request, or when the worker has ended.

A program of its own, in plain Python and without imports of ours: it starts in 30 ms. A worker starts it as
`supervisor.py GRACE_S LOCK PROGRAM ARGUMENT…`: its stdin is a pipe that the worker holds open, its stdout gets the
result as one line of JSON, and its stderr is the program's output.

On Linux it adopts the orphans among its descendants, also those in sessions of their own, so that none escapes. If it
is killed itself, the kernel kills the program, but not the program's children.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
POLL_S = 0.02
# The program of an earlier attempt may still be ending.
LOCK_WAIT_S = 60.0
STILL_RUNS = "the program of an earlier attempt still runs"
KILL_WAIT_S = 5.0


class Supervisor:
    """One program.

    Args:
        grace_s: Time between SIGTERM and SIGKILL, in seconds.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._program: int | None = None
        self._status: int | None = None
        self._asked = False
        self._wake, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self._asked = True

    def run(self, lock: str, command: list[str]) -> dict[str, object]:
        """Run the program to its end.

        Returns:
            Its status as `subprocess.Popen.returncode`, or an error.
        """
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        if not self._lock(lock):
            return {"error": "stopped" if self._asked else STILL_RUNS}
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=2,
                stderr=2,
                process_group=0,
                preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )
        except (OSError, ValueError) as error:
            return {"error": getattr(error, "strerror", None) or str(error)}
        self._program = child.pid
        while self._status is None and not self._asked:
            self._wait()
        self._end(child.pid)
        child.returncode = self._status
        return {"status": self._status, "asked": self._asked}

    def _lock(self, path: str) -> bool:
        """Wait until no other attempt uses the folder; its supervisor holds the lock as long as it lives."""
        deadline = time.monotonic() + LOCK_WAIT_S
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        except OSError:
            return True
        while not self._asked and time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._wait(POLL_S)
            except OSError:  # a file system without locks
                return True
            else:
                return True
        return False

    def _wait(self, timeout_s: float | None = None) -> None:
        """Wait for a signal, the end of a child, or the end of the worker."""
        ready, _, _ = select.select([self._wake, *([] if self._asked else [0])], [], [], timeout_s)
        if self._wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
        if 0 in ready and not os.read(0, 1):
            self._asked = True
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == self._program:
                    self._status = os.waitstatus_to_exitcode(status)

    def _end(self, program: int) -> None:
        """End the program if it runs, and what it has left."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(program, signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        while self._status is None and time.monotonic() < deadline:
            self._wait(POLL_S)
        # What the program has not ended itself: its children in other groups and sessions.
        if self._status is not None:
            send(descendants(), signal.SIGTERM)
        while descendants() and time.monotonic() < deadline:
            self._wait(POLL_S)
        deadline = time.monotonic() + KILL_WAIT_S
        while (left := descendants()) and time.monotonic() < deadline:
            send(left, signal.SIGKILL)
            self._wait(POLL_S)
        self._wait(0)


def send(pids: set[int], number: int) -> None:
    """Send a signal to processes, of which some may have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def descendants() -> set[int]:
    """The live descendants of this process."""
    parents = _parents()
    found: set[int] = set()
    generation = {os.getpid()}
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation and pid not in found}
        found |= generation
    return found


def _parents() -> dict[int, int]:
    """The parent of each process that is no zombie."""
    if not os.path.exists("/proc/self/stat"):
        listed = subprocess.run(["ps", "-Ao", "pid=,ppid=,stat="], capture_output=True, text=True, check=False).stdout
        rows = [line.split() for line in listed.splitlines()]
        own = os.getpid()
        return {int(row[0]): int(row[1]) for row in rows if row[2][0] != "Z" and int(row[0]) != own}
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                # The name, in parentheses, can contain anything.
                state, parent = file.read().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    parents[int(entry)] = int(parent)
    return parents


def prctl(option: int, value: int) -> None:
    """Call Linux's prctl; elsewhere do nothing."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def main() -> None:
    """Entry point."""
    grace_s, lock, *command = sys.argv[1:]
    result = Supervisor(float(grace_s)).run(lock, command)
    with contextlib.suppress(OSError):  # the worker has ended
        os.write(1, json.dumps(result).encode())


if __name__ == "__main__":
    main()
