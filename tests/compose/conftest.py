"""A compose stack on whatever Docker engine can be reached; skipped, with the reason, where there is none."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
PASSWORD = "c0mpose-Secret-7319"
STUDY = """
description = "a stand-in for the compose tests"
objective = "standin:start"

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
_numbers = itertools.count()


def why_no_engine() -> str | None:
    """The reason why no stack can be started here, None when one can."""
    if shutil.which("docker") is None:
        return "there is no docker client"
    for command in (["docker", "version"], ["docker", "compose", "version"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode:
            return f"`{' '.join(command)}` fails: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    reason = why_no_engine() if ours else None
    for item in ours:
        item.add_marker(pytest.mark.timeout(400))
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=f"no Docker engine: {reason}"))


@dataclass
class Stack:
    """One compose project with a study folder, a password and a port of its own."""

    folder: Path
    project: str
    environment: dict[str, str] = field(default_factory=dict)

    def compose(self, *arguments: str, check: bool = True, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        """Run `docker compose` on the project."""
        command = ["docker", "compose", "-p", self.project, "-f", str(ROOT / "docker-compose.yml"), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=self.full_environment, cwd=ROOT
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    @property
    def full_environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def up(self, *arguments: str, workers: int = 2, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Start the stack from the images that are there."""
        scale = f"worker={workers}"
        return self.compose("up", "-d", "--pull", "never", "--no-build", "--scale", scale, *arguments, check=check)

    def containers(self, service: str, *, running: bool = True) -> list[str]:
        """Ids of a service's containers."""
        listed = self.compose("ps", "-q", *([] if running else ["-a"]), service).stdout.split()
        if not running:
            return listed
        return [each for each in listed if self.inspect(each)["State"]["Running"]]

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        done = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found

    def status(self) -> dict[str, Any]:
        """`search.status --json` of the study."""
        done = self.compose("run", "--rm", "-T", "status", *STATUS, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {"counts": {}}

    def query(self, sql: str) -> list[list[str]]:
        """Rows of a query, asked inside the database's container."""
        command = ["exec", "-T", "db", "psql", "-h", "/var/run/postgresql", "-U", "search", "-d", "search", "-AtF", "|"]
        said = self.compose(*command, "-c", sql, check=False).stdout
        return [line.split("|") for line in said.splitlines()]

    def finished(self) -> int:
        """How many trials are complete."""
        rows = self.query("SELECT count(*) FROM search_runs WHERE outcome = 'complete'")
        return int(rows[0][0]) if rows else 0


STATUS = ["python", "-m", "search.status", "--study", "/study/standin.toml", "--json"]


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


@pytest.fixture(scope="session")
def images() -> None:
    """The image of the working tree, built."""
    environment = {**os.environ, "LM_SEARCH_TAG": "test", "DB_PASSWORD_FILE": os.devnull}
    command = ["docker", "compose", "-f", str(ROOT / "docker-compose.yml"), "build", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture
def make_stack(images: None, tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Makes stacks with a stand-in study; all of them are taken down at the end."""
    made: list[Stack] = []

    def make(cells: int = 8, standin_ms: int = 100, max_attempts: int = 50, **environment: str) -> Stack:
        folder = tmp_path / f"stack-{len(made)}"
        folder.mkdir()
        folder.chmod(0o755)
        shutil.copy(TESTS / "standin.py", folder)
        values = ", ".join(map(str, range(cells)))
        (folder / "standin.toml").write_text(STUDY.format(values=values, max_attempts=max_attempts))
        (folder / "password").write_text(PASSWORD + "\n")
        (folder / "password").chmod(0o644)
        override = {
            "LM_SEARCH_TAG": "test",
            "STUDY": "/study/standin.toml",
            "STUDY_DIR": str(folder),
            "DB_PASSWORD_FILE": str(folder / "password"),
            "DASHBOARD_PORT": str(free_port()),
            "STANDIN_MS": str(standin_ms),
            **environment,
        }
        stack = Stack(folder, f"lmsearch{os.getpid()}x{next(_numbers)}", override)
        made.append(stack)
        return stack

    yield make
    for stack in made:
        stack.compose("--profile", "tools", "down", "-v", "--timeout", "1", check=False)


def lines(texts: Sequence[str]) -> str:
    """Texts as one block, for messages."""
    return "\n".join(texts)
