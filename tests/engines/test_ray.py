"""Runs the tests of `inside_ray.py` in a network of their own, because Ray listens on all interfaces."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.engines

pytest.importorskip("ray", reason="needs Ray: pip install -e '.[test]'")
# A network with a loopback only, and process ids of its own, so that nothing is left of Ray at the end.
NAMESPACE = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
INSIDE = Path(__file__).with_name("inside_ray.py")


def can_unshare() -> bool:
    """Whether this user may make namespaces."""
    return shutil.which("unshare") is not None and not subprocess.call([*NAMESPACE, "ip", "link", "set", "lo", "up"])


# Ray's own programs need several times as long on a busy machine.
@pytest.mark.timeout(900)
def test_ray_in_a_network_of_its_own(tmp_path: Path) -> None:
    if not can_unshare():
        pytest.skip("this user may not make network namespaces")
    pytest_command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "--timeout", "400"]
    # Ray leaves files and processes open until it shuts down.
    quiet = ["-W", "ignore::ResourceWarning", "-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    inside = [*pytest_command, *quiet, "--basetemp", str(tmp_path / "inside"), str(INSIDE)]
    shell = ["sh", "-c", 'ip link set lo up; exec "$@"', "sh", *inside]
    # Short, because the paths of sockets are; nodes are given up after a second and a half.
    environment = {
        **os.environ,
        "RAY_TMPDIR": tempfile.mkdtemp(prefix="ray-"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_failure_threshold": "3",
        "RAY_health_check_initial_delay_ms": "1000",
    }
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    try:
        done = subprocess.run([*NAMESPACE, *shell], env=environment, capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(environment["RAY_TMPDIR"], ignore_errors=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
