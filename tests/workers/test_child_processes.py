"""The processes that belong to a worker, whatever else runs on the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gates import wait_until

from search.workers.child_processes import processes_of


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """The kernel cuts the name of a process to 15 bytes, here in the middle of a letter."""
    program = tmp_path / "обучение"
    program.symlink_to(os.path.realpath(sys.executable))
    with subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        name = Path(f"/proc/{process.pid}/comm")
        wait_until(lambda: name.read_bytes() == "обучени".encode() + b"\xd0\n", "the process's own name")
        assert process.pid in processes_of(os.getpid())
        process.kill()
