"""A study on a real SLURM: two nodes, workers that are preempted, requeued, timed out and lost with their node."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from engine_studies import PATIENCE_S, STUDY, EngineStudy
from gates import wait_until
from private_server import kill_server, server_folders
from study_files import all_rows

from search.errors import EXIT_STOPPED
from search.storage.server.claims import newest
from tests.engines.conftest import SlurmCluster

pytestmark = pytest.mark.engines
# A trial takes the lock of its GPU, so that two workers on one GPU are noticed, and waits where a file tells it to.
WALK = """
import fcntl
import os
import random
import time
from pathlib import Path

folder = Path(os.environ["WALK_FOLDER"])


def walk(params, seed):
    gpu = f"{os.environ.get('SLURMD_NODENAME')}-{os.environ.get('CUDA_VISIBLE_DEVICES')}"
    draw = random.Random(f"{seed}/{params}")
    hold, reached = folder / f"hold-{params['a']}-{params['b']}", folder / f"reached-{params['a']}-{params['b']}"
    with (folder / f"gpu-{gpu}").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            (folder / "clash").write_text(gpu)
        for step in range(4):
            if step == 2 and hold.exists():
                reached.write_text(f"{os.environ.get('SLURMD_NODENAME')} {os.environ.get('SLURM_JOB_ID')}")
                while hold.exists():
                    yield
                    time.sleep(0.02)
            yield step, params["a"] + draw.random()
"""
LAUNCHER = """\
name = "slurm"
gres = "gpu:1"
partition = "low"
time = 1          # minutes: every worker meets its limit
signal_s = 30
sbatch = ["--comment=walk"]
"""
HELD = ("0-0", "0-1", "0-2", "1-0")


class Walk(EngineStudy):
    """A study on SLURM, or beside it.

    Args:
        folder: A new folder.
        cells: How many cells it has.
        storage, arguments: As in `EngineStudy`.
    """

    def __init__(
        self,
        folder: Path,
        slurm: SlurmCluster,
        cells: int,
        storage: str = "sqlite:///walk.db",
        arguments: tuple[str, ...] = (),
    ) -> None:
        folder.mkdir()
        grid = f"a = {list(range(cells // 3))}\nb = [0, 1, 2]"
        study = STUDY.format(grid=grid, lease_s=20, launcher=LAUNCHER)
        super().__init__(folder, WALK, study, slurm.environment, storage, arguments)

    def logs(self) -> str:
        """What all tasks wrote."""
        return "".join(file.read_text() for file in sorted(self.folder.glob("search-out/walk/logs/slurm-*.log")))

    def curves(self) -> dict[int, tuple[str, dict[int, float]]]:
        """The state and the reports of each trial, by its number."""
        study = optuna.load_study(study_name="walk", storage=f"sqlite:///{self.folder}/walk.db")
        return {trial.number: (trial.state.name, trial.intermediate_values) for trial in study.trials}


@pytest.fixture
def walk(tmp_path: Path, slurm: SlurmCluster) -> Iterator[Callable[[str, int], Walk]]:
    def new(name: str, cells: int, storage: str = "sqlite:///walk.db", arguments: tuple[str, ...] = ()) -> Walk:
        return Walk(tmp_path / name, slurm, cells, storage, arguments)

    yield new
    subprocess.run(["scancel", "--user=root"], env=slurm.environment, capture_output=True, check=False)
    wait_until(lambda: not slurm.queue(), "an empty queue", PATIENCE_S)


@pytest.mark.timeout(600)
def test_every_trial_is_trained_once_whatever_happens_to_its_worker(
    walk: Callable[[str, int], Walk], slurm: SlurmCluster
) -> None:
    plain = walk("plain", 60)
    assert plain.finish("--launcher", "local", "--workers", "2")[0] == 0
    study = walk("slurm", 60)
    study.hold(*HELD)
    submitter = study.run("--workers", "4")
    study.wait_for(*HELD, run=submitter)
    places = [study.reached(cell) for cell in HELD]
    assert sorted(node for node, _ in places) == ["n1", "n1", "n2", "n2"]
    submitter.kill()
    submitter.communicate()
    jobs = {cell: job for cell, (_, job) in zip(HELD, places, strict=True)}

    # Requeued by hand: its trial goes on in the task that comes back.
    study.again(HELD[0])
    slurm.run("scontrol", "requeue", jobs[HELD[0]])
    study.wait_for(*HELD)

    # Preempted: a job of a higher partition takes both GPUs of a node.
    held = {cell: study.reached(cell) for cell in HELD}
    on_first = [cell for cell, (node, _) in held.items() if node == "n1"]
    study.again(*on_first)
    slurm.run("sbatch", "--partition=high", "--gres=gpu:2", "--nodelist=n1", "--output=/dev/null", "--wrap=sleep 1")
    study.wait_for(*HELD)

    # A node goes down, and comes back.
    held = {cell: study.reached(cell) for cell in HELD}
    on_second = [cell for cell, (node, _) in held.items() if node == "n2"]
    assert on_second
    study.again(*on_second)
    slurm.run("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
    wait_until(lambda: _resumed(slurm), "node n2 resumed", PATIENCE_S)
    study.wait_for(*HELD)

    # The time limit ends the longest worker 30 s after its start, and it comes back.
    wait_until(lambda: study.logs().count("asks to be run again (USR1)") > len(on_first), "a time limit", PATIENCE_S)
    study.release()

    code, said = study.finish("--workers", "4")
    assert code == 0, said + study.logs()
    assert len(re.findall(r"SLURM job \d+: \d+ workers", said)) <= 1
    curves = study.curves()
    assert len(curves) == 60
    assert {state for state, _ in curves.values()} == {"COMPLETE"}
    assert curves == plain.curves()
    assert not (study.folder / "clash").exists()
    wait_until(lambda: not slurm.queue(), "an empty queue", PATIENCE_S)


def _resumed(slurm: SlurmCluster) -> bool:
    """Resume node n2: SLURM refuses this for a moment after it went down, and also if the node has come back itself."""
    command = ["scontrol", "update", "NodeName=n2", "State=RESUME"]
    subprocess.run(command, env=slurm.environment, capture_output=True, check=False)
    return not slurm.run("sinfo", "--noheader", "--nodes=n2", "--format=%t").startswith("down")


def test_a_run_that_is_stopped_cancels_its_workers_and_one_that_detaches_leaves_them(
    walk: Callable[[str, int], Walk], slurm: SlurmCluster
) -> None:
    study = walk("stopped", 6)
    study.hold("0-0", "0-1")
    code, said = study.finish("--workers", "2", "--detach")
    assert code == 0, said
    assert re.search(r"detached: SLURM job \d+: 2 workers; squeue shows them", said)
    study.wait_for("0-0", "0-1")
    watcher = study.run("--workers", "2")
    assert watcher.stderr is not None
    assert any("done" in line for line in watcher.stderr)  # the same command watches them
    watcher.send_signal(signal.SIGTERM)
    _, said = watcher.communicate(timeout=PATIENCE_S)
    assert watcher.returncode == EXIT_STOPPED, said
    assert slurm.queue() == []
    study.release()
    code, said = study.finish("--workers", "2")
    assert code == 0, said + study.logs()
    assert len(json.loads((study.folder / "search-out/walk/logs/slurm-jobs.json").read_text())) == 1, (
        "none is cancelled"
    )
    assert {state for state, _ in study.curves().values()} == {"COMPLETE"}


def test_what_slurm_or_a_worker_refuses_is_said_in_one_line(walk: Callable[[str, int], Walk]) -> None:
    study = walk("refused by a cluster", 6)
    code, said = study.finish("--set", "launcher.partition=moon")
    assert (code, len(said.splitlines())) == (2, 1)
    assert "--launcher slurm: sbatch: error: invalid partition specified: moon" in said
    code, said = study.finish("--set", "launcher.partitions=low")
    assert (code, len(said.splitlines())) == (2, 1)
    assert "launcher.partitions: SLURM has no such setting (did you mean 'partition'?)" in said
    code, said = study.finish("--detach", "--launcher", "local")
    assert (code, len(said.splitlines())) == (2, 1)
    assert "--detach: the workers of this launcher end with the run" in said
    code, said = study.finish("--set", "launcher.prologue=echo no module walk; exit 2")
    assert code == 2, said
    log = r"/.*/refused by a cluster/.*/slurm-\d+_\d+\.log"
    assert re.search(rf"^error: SLURM job \d+ ended with exit code 2:0: no module walk; log: {log}$", said, re.M)


@pytest.mark.timeout(600)
def test_workers_start_their_private_server_again(walk: Callable[..., Walk]) -> None:
    with server_folders() as folders:
        storage = f"server:{folders / 'db'}"
        # On a busy machine the four can wait for longer than a time limit of a minute or a lease of 20 s allows.
        study = walk("served", 60, storage, ("--set", "launcher.time=10", "--set", "lease_s=300"))
        study.hold(*HELD)
        submitter = study.run("--workers", "4")
        study.wait_for(*HELD, run=submitter)
        submitter.kill()
        submitter.communicate()
        before = newest(folders / "db")
        assert before is not None
        kill_server(folders / "db", before)
        study.release()
        code, said = study.finish("--workers", "4")
        assert code == 0, said + study.logs()
        assert "started the database server" in study.logs() + said
        rows = all_rows(storage)
        assert {(row["outcome"], row["attempts"], row["token"]) for row in rows} == {("complete", 1, 1)}, study.logs()
        assert len(rows) == 60
