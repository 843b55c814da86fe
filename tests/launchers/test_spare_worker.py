"""The process that the local launcher starts before a study is planned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from study_files import sqlite, write_study

from search.launchers.child_process import child_environment
from search.launchers.local import LocalLauncher
from search.launchers.protocol import Places, WorkerJob
from search.launchers.spare_worker import end_early, spare_worker, start_early, started_early

WAIT_S = 60.0


def job(folder: Path) -> WorkerJob:
    """Workers of a study that does not exist: each says so and ends with 2."""
    storage = f"sqlite:///{folder}/none.db"
    return WorkerJob(["--study", "nope"], storage, folder / "logs", on_death=lambda owner, failure=None: 0)


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
    with spare_worker("cpu") as spare:
        launcher.prepare("module:function", spare)
        launcher.start(2, job(tmp_path))
        first, second = launcher._processes
        assert first.popen is spare.popen
        assert second.popen is not spare.popen
        assert [each.popen.wait(WAIT_S) for each in (first, second)] == [2, 2]
    assert "'nope' is not in" in first.log()
    assert "none.db" in first.log()
    assert first.log() == second.log()


# Each of two workers has one of two trials.
BOTH_WORK = """
import ctypes
import time
from pathlib import Path


def wait_for_the_other(params):
    folder = Path(__file__).parent
    (folder / f"{params['a']}.began").touch()
    while len(list(folder.glob("*.began"))) < 2:
        time.sleep(0.01)


def train(params, seed):
    wait_for_the_other(params)
    return params["a"]


def count_threads(params, seed):
    import numpy

    wait_for_the_other(params)
    maps = Path("/proc/self/maps").read_text().splitlines()
    blas = ctypes.CDLL(next(line.split()[-1] for line in maps if "numpy" in line and "openblas" in line))
    return float(blas.scipy_openblas_get_num_threads64_())
"""


def both_work(folder: Path, function: str) -> str:
    """A study file with two trials, each of which waits until the other has begun."""
    (folder / "both.py").write_text(BOTH_WORK)
    return write_study(folder, f'objective = "both:{function}"\n[grid]\na = [1, 2]\n')


def output_of_python(folder: Path, *arguments: str) -> str:
    """The output of a Python of its own: programs of other tests begin with numpy imported."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=child_environment({}), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_worker_has_as_many_threads_of_numpy(tmp_path: Path) -> None:
    options = ["--study", both_work(tmp_path, "count_threads"), "--storage", sqlite(tmp_path), "--workers", "2"]
    output = output_of_python(tmp_path, "-m", "search.run", *options, "--json")
    assert [row["value"] for row in json.loads(output)["rows"]] == [1.0, 1.0]


def test_where_there_may_be_a_gpu_a_worker_on_a_cpu_is_a_process_that_begins_with_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # points at a GPU
    launcher = LocalLauncher(Places("cpu", "1"))
    with spare_worker("cpu") as spare:
        launcher.prepare("module:function", spare)
        launcher.start(1, job(tmp_path))
        [process] = launcher._processes
        assert process.popen is not spare.popen
        assert process.popen.wait(WAIT_S) == 2


def test_workers_of_a_run_have_its_options_and_not_those_of_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCH_ARTIFACTS", str(tmp_path / "variable"))
    code = (
        "import sys\nfrom search import run_study\n"
        "run_study(sys.argv[1], storage=sys.argv[2], workers=2, devices='cpu', artifacts=None, quiet=True)\n"
    )
    output_of_python(tmp_path, "-c", code, both_work(tmp_path, "train"), sqlite(tmp_path))
    assert not (tmp_path / "variable").exists()
    assert len([*(tmp_path / "search-out" / "artifacts").iterdir()]) >= 4  # record and curve of both


def test_its_hints_name_the_program_as_it_was_called(tmp_path: Path) -> None:
    (tmp_path / "called.py").write_text(
        "from pathlib import Path\nfrom search.hints import command_of\n\n\ndef train(params, seed):\n"
        "    Path(__file__).with_name('called').write_text(command_of('status'))\n    return 1.0\n"
    )
    study = write_study(tmp_path, 'objective = "called:train"\n[grid]\na = [1]\n')
    code = "import sys\nfrom search.console import main\nsys.argv[0] = 'lm-search'\nmain()\n"
    options = ["--study", study, "--storage", sqlite(tmp_path), "--workers", "1"]
    output_of_python(tmp_path, "-c", code, "run", *options)
    assert (tmp_path / "called").read_text() == "lm-search status"


def test_without_a_job_it_ends_with_the_context_and_with_the_run() -> None:
    with spare_worker("cpu") as spare:
        spare.expect("module:function", "cpu", {})
    assert spare.popen.returncode is not None
    code = (
        "import os\nfrom search.launchers.spare_worker import spare_worker\n"
        "print(spare_worker('cpu').popen.pid, flush=True)\nos._exit(1)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S)
    assert is_gone(int(killed.stdout))


def test_another_process_takes_its_place_if_it_has_ended(tmp_path: Path) -> None:
    launcher = LocalLauncher(Places("cpu", "1"))
    with spare_worker("cpu") as spare:
        launcher.prepare("module:function", spare)
        os.kill(spare.popen.pid, signal.SIGKILL)
        spare.popen.wait(WAIT_S)
        launcher.start(1, job(tmp_path))
        [process] = launcher._processes
        assert process.popen is not spare.popen
        assert process.popen.wait(WAIT_S) == 2
    assert "'nope' is not in" in process.log()


@pytest.mark.parametrize(("objective", "has_torch"), [("language_model", True), ("command", False), ("my:own", False)])
def test_what_trains_with_torch_has_it_before_the_job(objective: str, has_torch: bool) -> None:
    with spare_worker("cpu") as spare:
        spare.expect(objective, "cpu", {"OF_THE_SLOT": "1"})
        # It waits for its job once it has imported everything; then it has no more to read.
        found, deadline = False, time.monotonic() + WAIT_S
        while time.monotonic() < deadline and "pipe" not in Path(f"/proc/{spare.popen.pid}/wchan").read_text():
            time.sleep(0.05)
        found = "libtorch" in Path(f"/proc/{spare.popen.pid}/maps").read_text()
        assert has_torch or not found
        while has_torch and not found and time.monotonic() < deadline:
            time.sleep(0.05)
            found = "libtorch" in Path(f"/proc/{spare.popen.pid}/maps").read_text()
        assert found == has_torch


@pytest.mark.parametrize("argument", ["--plan-only", "--launcher=slurm", "--help"])
def test_none_is_started_early_for_what_needs_none(argument: str) -> None:
    start_early(["--study", "bigram", argument])
    with spare_worker("cpu") as spare:
        assert spare.popen.poll() is None
        start_early(["--study", "bigram"])
        with spare_worker("cpu") as early:
            assert early.popen.pid != spare.popen.pid
            end_early()  # it is taken
            assert early.popen.poll() is None
    start_early(["--study", "bigram"])
    [unused] = started_early
    end_early()
    assert unused.popen.returncode is not None


def test_it_ends_with_a_run_that_cannot_start(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom search.launchers import spare_worker\nimport search.run\n"
        "sys.argv[1:] = ['--study', 'nope.toml']\nspare_worker.start_early(sys.argv[1:])\n"
        "print(spare_worker.started_early[0].popen.pid, flush=True)\nsearch.run.main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S)
    assert ended.returncode == 2
    assert is_gone(int(ended.stdout))
