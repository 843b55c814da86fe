"""A compose stack with the study of the fake objective, and queries of its state."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import fake_objective

from search.objectives.corpus import encode
from search.objectives.settings import TrainingSettings

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
PASSWORDS = {role: f"c0mpose-Secret-{role}-'7319$" for role in ("db", "worker", "reader")}
STUDY = """
description = "the fake objective, for the compose tests"
objective = "fake_objective:start"

[grid]
x = [{values}]

[training]
max_iters = 20
eval_interval = 2

[workers]
lease_s = 4
max_attempts = {max_attempts}
retry_delay_s = 0.1

[pruner]
name = "none"
"""


def why_no_engine() -> str | None:
    """The reason why no stack can start here; None if one can."""
    if shutil.which("docker") is None:
        return "there is no docker client"
    for command in (["docker", "version"], ["docker", "compose", "version"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode:
            return f"`{' '.join(command)}` fails: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
    return None


@dataclass
class Stack:
    """One compose project with its study folder, password and port."""

    folder: Path
    project: str
    environment: dict[str, str] = field(default_factory=dict)

    def compose(self, *arguments: str, check: bool = True, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """Run `docker compose` on the project."""
        files = ["-f", str(ROOT / "docker-compose.yml"), "-f", str(self.folder / "override.yml")]
        command = ["docker", "compose", "-p", self.project, *files, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=self.full_environment, cwd=ROOT
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    @property
    def full_environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def up(self, *arguments: str, workers: int = 2, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Start the stack from the local images."""
        scale = f"worker={workers}"
        return self.compose("up", "-d", "--pull", "never", "--no-build", "--scale", scale, *arguments, check=check)

    def containers(self, service: str, *, running: bool = True) -> list[str]:
        """The ids of a service's containers."""
        listed = self.compose("ps", "-q", *([] if running else ["-a"]), service).stdout.split()
        if not running:
            return listed
        return [each for each in listed if self.inspect(each)["State"]["Running"]]

    def inspect(self, container: str) -> dict[str, Any]:
        """The result of `docker inspect` for a container."""
        done = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found

    def query(self, sql: str) -> list[list[str]]:
        """The rows of a query, run inside the database's container."""
        command = ["exec", "-T", "db", "psql", "-h", "/var/run/postgresql", "-U", "search", "-d", "search", "-AtF", "|"]
        output = self.compose(*command, "-c", sql, check=False).stdout
        return [line.split("|") for line in output.splitlines()]

    def check_exactly_once(self) -> None:
        """Check that every trial is complete once, with the value of an undisturbed run."""
        rows = self.query("SELECT number, cell, outcome, value FROM search_runs ORDER BY number")
        cells = [json.loads(cell) for _, cell, _, _ in rows]
        assert [cell["x"] for cell in cells] == list(range(len(cells)))
        assert {outcome for _, _, outcome, _ in rows} == {"complete"}
        assert [float(value) for *_, value in rows] == [undisturbed(cell["x"], cell["seed"]) for cell in cells]
        states = self.query("SELECT state, count(*), count(DISTINCT number) FROM trials GROUP BY state")
        assert states == [["COMPLETE", str(len(cells)), str(len(cells))]]

    def finished(self) -> int:
        """The number of complete trials."""
        rows = self.query("SELECT count(*) FROM search_runs WHERE outcome = 'complete'")
        return int(rows[0][0]) if rows else 0


def undisturbed(x: int, seed: int) -> float:
    """The value of an undisturbed trial."""
    settings = TrainingSettings(max_iters=20, eval_interval=2)
    with mock.patch.dict(os.environ, FAKE_TRIAL_MS="0"):
        run = fake_objective.start({"x": x}, seed, settings, encode("none", "none"), "cpu")
    while not run.finished:
        run.advance(lambda: False)
    return run.curve[-1].value


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll until `condition` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
