"""The PostgreSQL server of the tests ends with them, even if they are killed; and skips can fail a run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from gates import wait_until

# What a test session does: start a server, and print where it is.
OWNER = """
import os, sys, time
from postgres import PostgresServer
server = PostgresServer()
print(server.port, server.folder, flush=True)
time.sleep(300)
"""


def answers(port: int) -> bool:
    """Whether something listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_server_ends_with_its_owner(how: str) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    with owner:
        assert owner.stdout is not None
        port, folder = owner.stdout.readline().split()
        assert answers(int(port))
        getattr(owner, how)()
    wait_until(lambda: not answers(int(port)), "the server's end")
    wait_until(lambda: not Path(folder).exists(), "the removal of its folder")


SKIPPED = """
import pytest

def test_done(): pass

def test_skipped(): pytest.skip("{reason}")
"""


@pytest.mark.parametrize(
    ("reason", "arguments", "code"),
    [
        ("no Chromium", ["-n", "0"], 0),
        ("no Chromium", ["-n", "1", "--fail-on-skip"], 1),
        ("no CUDA GPU that torch sees", ["-n", "0", "--fail-on-skip"], 0),
    ],
)
def test_fail_on_skip(tmp_path: Path, reason: str, arguments: list[str], code: int) -> None:
    (tmp_path / "test_some.py").write_text(SKIPPED.format(reason=reason))
    command = [sys.executable, "-m", "pytest", "-p", "fail_on_skip", "-rs", *arguments]
    # The session that runs this test may have been given the option itself.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout
    assert reason in done.stdout
    assert ("--fail-on-skip refuses" in done.stdout) == (code == 1)
