"""The page of `benchmarks.compare`: a table with ratios, and where it was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True)
class Contender:
    """What one way of doing the work takes.

    Attributes:
        wall_s: Seconds from the command to its end.
        cpu_s: Seconds of all cores.
        how: Whether it was measured as a whole, and what else must be known of it.
    """

    name: str
    wall_s: float
    cpu_s: float
    how: str


def markdown(contenders: Sequence[Contender], trials: int, date: datetime) -> str:
    """The table: trials an hour, and how many times the last two are faster than each of the others."""
    unpruned, pruned = contenders[-2:]
    lines = [
        "| way | time | trials an hour | CPU time | no pruning is faster by | default pruner is faster by | figures |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for each in contenders:
        lines.append(
            f"| {each.name} | {_minutes(each.wall_s)} | {3600 * trials / each.wall_s:.0f} | {_minutes(each.cpu_s)} "
            f"| {each.wall_s / unpruned.wall_s:.1f} | {each.wall_s / pruned.wall_s:.1f} | {each.how} |"
        )
    return "\n".join([*lines, "", f"{trials} trials of 5000 steps. {machine()}, {date:%Y-%m-%d}.", ""])


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def machine() -> str:
    """Processor, cores, memory and versions, in one sentence without a name of the machine."""
    cores = len(os.sched_getaffinity(0))
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("torch", "optuna", "ray")
    versions = ", ".join(f"{name} {version}" for name in packages if (version := _version(name)))
    return (
        f"{_processor()}, {cores} cores, {memory_gib:.0f} GiB, no GPU; Python {platform.python_version()}, {versions}"
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
