"""A compose stack on whatever Docker engine can be reached; skipped, with the reason, where there is none."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from compose_stack import PASSWORDS, ROOT, STUDY, TESTS, Stack, free_port, why_no_engine

_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    reason = why_no_engine() if ours else None
    for item in ours:
        item.add_marker(pytest.mark.timeout(400))
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=f"no Docker engine: {reason}"))


@pytest.fixture(scope="session")
def images() -> None:
    """The image of the working tree, built once: all services have the same."""
    environment = {**os.environ, "LM_SEARCH_TAG": "test", "SECRETS_DIR": os.devnull}
    command = ["docker", "compose", "-f", str(ROOT / "docker-compose.yml"), "build", "-q", "worker"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture
def make_stack(images: None, tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Makes stacks with a study of the fake objective; all of them are taken down at the end."""
    made: list[Stack] = []

    def make(cells: int = 8, trial_ms: int = 100, max_attempts: int = 50, **environment: str) -> Stack:
        folder = tmp_path / f"stack-{len(made)}"
        folder.mkdir()
        folder.chmod(0o755)
        shutil.copy(TESTS / "support" / "fake_objective.py", folder)
        values = ", ".join(map(str, range(cells)))
        (folder / "fake.toml").write_text(STUDY.format(values=values, max_attempts=max_attempts))
        (folder / "override.yml").write_text(
            f"services: {{worker: {{environment: {{FAKE_TRIAL_MS: '{trial_ms}'}}}}}}\n"
        )
        for role, password in PASSWORDS.items():
            (folder / f"{role}_password").write_text(password + "\n")
            (folder / f"{role}_password").chmod(0o644)
        override = {
            "LM_SEARCH_TAG": "test",
            "STUDY": "/study/fake.toml",
            "STUDY_DIR": str(folder),
            "SECRETS_DIR": str(folder),
            "DASHBOARD_PORT": str(free_port()),
            **environment,
        }
        stack = Stack(folder, f"lmsearch{os.getpid()}x{next(_numbers)}", override)
        made.append(stack)
        return stack

    yield make
    for stack in made:
        stack.compose("--profile", "tools", "down", "-v", "--timeout", "1", check=False)
