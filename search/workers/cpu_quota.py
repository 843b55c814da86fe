"""The number of cores that a container or a scheduler allows this process, as cgroups state it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def cpu_count(root: Path = ROOT) -> int:
    """The number of cores that this process may use: those of its affinity, or fewer by a quota of its cgroups.

    Args:
        root: The folder below which proc and sys are read.

    Returns:
        At least 1; a quota of 1.5 cores is rounded up to 2.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def cpu_quota(root: Path = ROOT) -> float | None:
    """The smallest quota of the cgroups of this process and of those above them, in cores; None without a quota."""
    return min(_quotas(root), default=None)


def _quotas(root: Path) -> Iterator[float]:
    for controllers, group in _groups(root):
        # Version 2 names no controllers. Version 1 is mounted by the name of its controllers, in either order.
        is_cpu = "cpu" in controllers.split(",")
        if controllers and not is_cpu:
            continue
        folders = ("cpu", "cpu,cpuacct", "cpuacct,cpu") if is_cpu else ("", "unified")
        for folder in folders:
            for level in _with_parents(root / "sys/fs/cgroup" / folder, group):
                quota = _quota_1(level) if is_cpu else _quota_2(level)
                if quota is not None:
                    yield quota


def _groups(root: Path) -> list[tuple[str, str]]:
    """The controllers and the path of each cgroup of this process."""
    lines = _read(root / "proc/self/cgroup").splitlines()
    parts = [line.split(":", 2) for line in lines]
    return [(controllers, group) for _, controllers, group in (each for each in parts if len(each) == 3)]


def _with_parents(mounted: Path, group: str) -> list[Path]:
    """The folders of a cgroup and of those above it.

    Inside a container the path can be that of the host, where the container sees only its own group, at the top.
    """
    parts = [part for part in PurePosixPath(group).parts if part not in ("/", "..")]
    return [mounted.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _quota_2(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.max").split())


def _quota_1(folder: Path) -> float | None:
    return _ratio([_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")])


def _ratio(texts: list[str]) -> float | None:
    try:
        quota, period = (int(text) for text in texts)
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
