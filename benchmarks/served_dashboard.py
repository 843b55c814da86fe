"""The dashboard as users start it: a process, its port, and what it may not use too much of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Dashboard:
    """A running dashboard."""

    port: int
    pid: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def used_bytes(self) -> int:
        """Memory, and files without a name, which are memory too where /tmp is."""
        process = Path(f"/proc/{self.pid}")
        [memory] = re.findall(r"VmRSS:\s+(\d+) kB", (process / "status").read_text())
        total = int(memory) * 1024
        for handle in (process / "fd").iterdir():
            try:
                if "(deleted)" in os.readlink(handle):
                    total += os.stat(handle).st_size
            except OSError:  # closed meanwhile
                continue
        return total


@contextmanager
def served_dashboard(storage: str, folder: Path, *arguments: str, **environment: str) -> Iterator[Dashboard]:
    """Start a dashboard on a free port, and end it with the context.

    Args:
        folder: Its working directory.
        arguments: Of the program.
        environment: Variables besides those of this process.
    """
    command = [sys.executable, "-m", "search.dashboard", "--storage", storage, "--port", "0", *arguments]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=folder, env={**os.environ, **environment}
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://\S+:(\d+)/", line)  # the line has the address of the database too
        if found is None:
            raise RuntimeError(line)
        yield Dashboard(int(found[1]), process.pid)
    finally:
        process.terminate()
        process.communicate(timeout=20)
