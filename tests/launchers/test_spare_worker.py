"""The process that the local launcher starts before a study is planned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from search.launchers.local import LocalLauncher
from search.launchers.protocol import Places, WorkerJob
from search.launchers.spare_worker import SpareWorker

WAIT_S = 60.0


def job(folder: Path) -> WorkerJob:
    """Workers of a study that does not exist: each says so and ends with 2."""
    storage = f"sqlite:///{folder}/none.db"
    return WorkerJob(["--study", "nope"], storage, folder / "logs", on_death=lambda owner, failure=None: 0)


def command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def is_gone(pid: int) -> bool:
    """Whether a process that is not our child has ended."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_the_first_worker_is_the_process_that_waited(tmp_path: Path) -> None:
    launcher = LocalLauncher(Places("cpu", "2"))
    with launcher.prepare("module:function"):
        assert launcher._spare is not None
        waiting = launcher._spare._popen
        launcher.start(2, job(tmp_path))
        first, second = launcher._processes
        assert first.popen is waiting
        assert "--spare" in command_line(waiting.pid)
        assert second.popen is not waiting
        assert [each.popen.wait(WAIT_S) for each in (first, second)] == [2, 2]
        assert "'nope' is not in" in first.log()
        assert "none.db" in first.log()
        assert first.log() == second.log()


def test_without_a_job_it_ends_with_the_context_and_with_the_run() -> None:
    launcher = LocalLauncher(Places("cpu", "1"))
    with launcher.prepare("module:function"):
        assert launcher._spare is not None
        waiting = launcher._spare._popen
    assert waiting.returncode is not None
    code = (
        "import os\nfrom search.launchers.spare_worker import SpareWorker\n"
        "print(SpareWorker('module:function', {})._popen.pid, flush=True)\nos._exit(1)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S)
    assert is_gone(int(killed.stdout))


def test_another_process_takes_its_place_if_it_has_ended(tmp_path: Path) -> None:
    launcher = LocalLauncher(Places("cpu", "1"))
    with launcher.prepare("module:function"):
        assert launcher._spare is not None
        waiting = launcher._spare._popen
        os.kill(waiting.pid, signal.SIGKILL)
        waiting.wait(WAIT_S)
        launcher.start(1, job(tmp_path))
        [process] = launcher._processes
        assert process.popen is not waiting
        assert process.popen.wait(WAIT_S) == 2
    assert "'nope' is not in" in process.log()


def test_what_trains_with_torch_has_it_before_the_job() -> None:
    names = []
    for objective in ("language_model", "command", "module:function"):
        spare = SpareWorker(objective, {})
        try:
            maps = Path(f"/proc/{spare._popen.pid}/maps")
            has_torch, deadline = False, time.monotonic() + WAIT_S
            # Numpy is imported by every worker, so a process that has it and waits has imported all.
            while time.monotonic() < deadline and not has_torch:
                wchan = Path(f"/proc/{spare._popen.pid}/wchan").read_text()
                has_torch = "libtorch" in maps.read_text()
                if "pipe" in wchan:
                    break
                time.sleep(0.05)
            names.append((objective, has_torch))
        finally:
            spare.close()
    assert names == [("language_model", True), ("command", False), ("module:function", False)]
