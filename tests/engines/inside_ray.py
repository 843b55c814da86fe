"""Studies on a real Ray of three nodes; `test_ray.py` runs this in a network namespace."""

from __future__ import annotations

import logging
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import ray
from engine_studies import STUDY, EngineStudy
from gates import wait_until
from ray.cluster_utils import Cluster

from search import run_study
from search.errors import EXIT_STOPPED
from search.launchers.ray import NAMESPACE

PATIENCE_S = 200.0
HELD = ("0", "1", "2", "3")
SMALL: dict[str, Any] = {"object_store_memory": 80 * 2**20}
# A trial says where it runs, and waits where a file tells it to.
WALK = """
import os
import random
import time
from pathlib import Path

folder = Path(os.environ["WALK_FOLDER"])


def walk(params, seed):
    draw = random.Random(f"{seed}/{params['a']}")
    hold, reached = folder / f"hold-{params['a']}", folder / f"reached-{params['a']}"
    for step in range(4):
        if step == 2 and hold.exists():
            arguments = Path("/proc/self/cmdline").read_text().split("\\0")
            node = next(each for each in arguments if "/ray-" in each).partition("/ray-")[2][:8]
            reached.write_text(f"{node} {os.environ.get('CUDA_VISIBLE_DEVICES')}")
            while hold.exists():
                yield
                time.sleep(0.02)
        yield step, params["a"] + draw.random()
"""
LAUNCHER = """\
name = "ray"
num_cpus = 0.5
num_gpus = 0.5
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without CPUs, and two nodes with two CPUs and a claimed GPU each."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **SMALL})
    for _ in range(2):
        made.add_node(num_cpus=2, num_gpus=1, **SMALL)
    ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)  # in a namespace of its own
    yield made
    ray.shutdown()
    made.shutdown()  # type: ignore[no-untyped-call]


class Walk(EngineStudy):
    """A study on Ray."""

    patience_s = PATIENCE_S

    def __init__(self, folder: Path, cluster: Cluster, cells: int) -> None:
        study = STUDY.format(grid=f"a = {list(range(cells))}", lease_s=10, launcher=LAUNCHER)
        self.variables = f'launcher.runtime_env={{env_vars={{WALK_FOLDER="{folder}"}}}}'
        environment = {"RAY_ADDRESS": cluster.address}
        super().__init__(folder, WALK, study, environment, arguments=("--set", self.variables))

    def check_complete(self, cells: int) -> None:
        """Every trial is there once, complete, and with the values that a loop of one's own gives."""
        study = optuna.load_study(study_name="walk", storage=f"sqlite:///{self.folder}/walk.db")
        found = {trial.params["a"]: (trial.state.name, trial.intermediate_values) for trial in study.trials}
        assert len(study.trials) == cells
        for a in range(cells):
            draw = random.Random(f"{1337}/{a}")
            assert found[a] == ("COMPLETE", {step: a + draw.random() for step in range(4)})


@pytest.fixture
def walk(tmp_path: Path, cluster: Cluster) -> Iterator[Walk]:
    study = Walk(tmp_path, cluster, 24)
    yield study
    study.release()
    wait_until(lambda: not actors(), "no actor left", PATIENCE_S)


def actors() -> list[str]:
    """The names of the actors that have not ended."""
    found: list[Any] = list(ray.util.list_named_actors(all_namespaces=True))
    return [each["name"] for each in found if each["namespace"] == NAMESPACE]


def is_free() -> bool:
    """Whether all CPUs and GPUs of the cluster are free."""
    total, free = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
    return all(free.get(each, 0) == total.get(each, 0) for each in ("CPU", "GPU"))


def node_of(cluster: Cluster, name: str) -> Any:
    """The node whose id starts so."""
    return next(node for node in cluster.worker_nodes if node.node_id.startswith(name))


def raylet_of(node: Any) -> int:
    """The process id of a node's raylet."""
    return int(node.all_processes["raylet"][0].process.pid)


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry))
    found = [root]
    for pid in found:  # it grows while it is read
        found += children.get(pid, [])
    return found


def test_trials_of_a_lost_machine_go_on_on_another_and_workers_share_cards(walk: Walk, cluster: Cluster) -> None:
    walk.hold(*HELD)
    run = walk.run("--workers", "4")
    walk.wait_for(*HELD, run=run)
    places = {a: walk.reached(a) for a in HELD}
    nodes = sorted({node for node, _ in places.values()})
    assert len(nodes) == 2
    assert sorted(node for node, _ in places.values()) == [nodes[0], nodes[0], nodes[1], nodes[1]]
    assert {card for _, card in places.values()} == {"0"}, "two workers share the card of each node"

    lost = [a for a in HELD if places[a][0] == nodes[0]]
    walk.again(*lost)
    for pid in tree(raylet_of(node_of(cluster, nodes[0]))):
        os.kill(pid, signal.SIGKILL)
    cluster.add_node(num_cpus=2, num_gpus=1, **SMALL)
    walk.wait_for(*lost, run=run)
    walk.release()
    _, said = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0, said
    walk.check_complete(24)
    wait_until(is_free, "free CPUs and GPUs", PATIENCE_S)


def test_a_node_that_ray_gives_up_while_its_worker_lives_costs_no_trial(walk: Walk, cluster: Cluster) -> None:
    """Only the raylet dies: for a while two workers believe that they have the trial, and the lease decides."""
    walk.hold("0")
    run = walk.run("--workers", "2")
    walk.wait_for("0", run=run)
    node = node_of(cluster, walk.reached("0")[0])
    os.kill(raylet_of(node), signal.SIGKILL)
    cluster.add_node(num_cpus=2, num_gpus=1, **SMALL)
    wait_until(lambda: len(done(walk)) == 23, "all other trials", PATIENCE_S)
    walk.release()
    _, said = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0, said
    walk.check_complete(24)


def done(walk: Walk) -> list[int]:
    """The numbers of the trials that have ended."""
    study = optuna.load_study(study_name="walk", storage=f"sqlite:///{walk.folder}/walk.db")
    return [trial.number for trial in study.trials if trial.state.is_finished()]


def test_a_detached_run_leaves_its_workers_and_a_stopped_one_hands_its_trials_back(walk: Walk) -> None:
    walk.hold("0", "1")
    code, said = walk.finish("--workers", "2", "--detach")
    assert code == 0, said
    assert "detached: 2 workers on Ray in the namespace lm-search" in said
    walk.wait_for("0", "1")
    watcher = walk.run("--workers", "2")
    assert watcher.stderr is not None
    assert any("2 running" in line for line in watcher.stderr)  # the same command watches them
    watcher.send_signal(signal.SIGTERM)
    _, said = watcher.communicate(timeout=PATIENCE_S)
    assert watcher.returncode == EXIT_STOPPED, said
    assert actors() == []
    study = optuna.load_study(study_name="walk", storage=f"sqlite:///{walk.folder}/walk.db")
    assert not [trial for trial in study.trials if trial.state.name == "RUNNING"]
    walk.release()
    code, said = walk.finish("--workers", "2")
    assert code == 0, said
    walk.check_complete(24)


def test_a_program_that_has_joined_ray_itself_watches_its_workers(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ray.is_initialized()
    monkeypatch.chdir(walk.folder)
    monkeypatch.setenv("WALK_FOLDER", str(walk.folder))  # the plan imports the module, too
    result = run_study(
        "walk.toml", storage="sqlite:///walk.db", devices="cpu", workers="2", settings=[walk.variables], quiet=True
    )
    assert (result.exit_code, result.counts["complete"]) == (0, 24)
    walk.check_complete(24)


def test_what_ray_or_a_worker_refuses_is_said_in_one_line(walk: Walk) -> None:
    for more, message in (
        (["--set", "launcher.num_gpu=1"], "launcher.num_gpu: Ray has no such setting (did you mean 'num_gpus'?)"),
        (["--set", "launcher.num_cpus=-1"], "launcher.num_cpus = -1: Input should be greater than or equal to 0"),
        (["--devices", "cuda:1"], "--devices cuda:1: with Ray choose auto, cpu or cuda; num_gpus asks for cards"),
        (["--set", "launcher.address=127.0.0.1:1"], "--launcher ray: no cluster at 127.0.0.1:1"),
    ):
        code, said = walk.finish(*more)
        assert (code, len(said.splitlines())) == (2, 1), said
        assert message in said
    assert not (walk.folder / "walk.db").exists()
