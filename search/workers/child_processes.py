"""Processes that a worker's trials have started, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

PROC = Path("/proc")
POLL_S = 0.02


def processes_of(leader: int) -> set[int]:
    """The live processes that belong to a worker's session or process group; of this process, its descendants too.

    Args:
        leader: The worker's process id. It may have ended: its session lives on in the processes that it has left.
    """
    table = _process_table()
    found = {pid for pid, (_, group, session) in table.items() if leader in (group, session)}
    generation = {leader} & {os.getpid()}
    while generation:
        generation = {pid for pid, (parent, _, _) in table.items() if parent in generation and pid not in found}
        found |= generation
    return found - {leader, os.getpid()}


def stop_processes_of(leader: int, grace_s: float = 1.0) -> int:
    """Send SIGTERM to `processes_of` a worker, and SIGKILL to those that have not ended after `grace_s` seconds.

    Returns:
        The number of processes.
    """
    pids = processes_of(leader)
    _send(pids, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (left := processes_of(leader)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    _send(left, signal.SIGKILL)
    return len(pids)


def _send(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _process_table() -> dict[int, tuple[int, int, int]]:
    """Parent, process group and session of each process that is no zombie; without /proc the session counts as 0."""
    if not (PROC / "self" / "stat").exists():
        return _table_of_ps()
    table = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # it has just ended
                # The name, in parentheses, can contain anything, also a part of a letter: the kernel cuts it.
                line = (entry / "stat").read_text(encoding="utf-8", errors="replace")
                state, parent, group, session = line.rpartition(")")[2].split()[:4]
                if state not in "ZX":
                    table[int(entry.name)] = (int(parent), int(group), int(session))
    return table


def _table_of_ps() -> dict[int, tuple[int, int, int]]:
    listed = subprocess.run(["ps", "-Ao", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True, check=False)
    rows = [line.split() for line in listed.stdout.splitlines()]
    return {int(row[0]): (int(row[1]), int(row[2]), 0) for row in rows if len(row) > 3 and row[3][0] != "Z"}
