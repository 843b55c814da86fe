"""How many cores a CPU quota leaves, on made-up cgroup files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from search.workers.cpu_quota import cpu_count, cpu_quota

V1 = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"
HYBRID = "2:cpu,cpuacct:/job\n1:name=systemd:/job\n0::/job\n"
# The contents of proc/self/cgroup, those of files in sys/fs/cgroup, and the quota.
CASES: dict[str, tuple[str, dict[str, str], float | None]] = {
    "v2, half a core": ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
    "v2, 1.5 cores": ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
    "v2, another period": ("0::/\n", {"cpu.max": "40000 20000\n"}, 2.0),
    "v2, none": ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    "v2, in a nested group": ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3.0),
    "v2, the smallest counts": ("0::/a/b\n", {"a/b/cpu.max": "200000 100000", "a/cpu.max": "100000 100000"}, 1.0),
    "v2, the path of the host": ("0::/../../system.slice/x\n", {"cpu.max": "100000 100000"}, 1.0),
    "v1": (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "50000", "cpu/docker/abc/cpu.cfs_period_us": "100000"}, 0.5),
    "v1, the path of the host": (V1, {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2.5),
    "v1, mounted by both names": (
        V1,
        {"cpu,cpuacct/cpu.cfs_quota_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        1.0,
    ),
    "v1, none": (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    "v1, another controller's group": ("3:cpuset:/x\n", {"cpu.cfs_quota_us": "100", "cpu.cfs_period_us": "100"}, None),
    "both versions": (
        HYBRID,
        {"cpu/job/cpu.cfs_quota_us": "100000", "cpu/job/cpu.cfs_period_us": "100000", "unified/job/cpu.max": "max 1"},
        1.0,
    ),
    "damaged": ("nonsense\n0::/\n", {"cpu.max": "many\n"}, None),
    "period of 0": ("0::/\n", {"cpu.max": "100 0\n"}, None),
    "no cgroups": ("", {}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_quota(tmp_path: Path, case: str) -> None:
    group, files, expected = CASES[case]
    below = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in {"proc/self/cgroup": group, **below}.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert cpu_quota(tmp_path) == expected
    affinity = len(os.sched_getaffinity(0))
    rounded = {0.5: 1, 1.0: 1, 1.5: 2, 2.0: 2, 2.5: 3, 3.0: 3, None: affinity}[expected]
    assert cpu_count(tmp_path) == min(affinity, rounded)


def test_affinity_is_the_limit_without_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5})
    assert cpu_count(tmp_path) == 3
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    for quota, cores in (("20000 100000", 1), ("120000 100000", 2), ("900000 100000", 3)):
        (tmp_path / "sys/fs/cgroup/cpu.max").write_text(quota)
        assert cpu_count(tmp_path) == cores
