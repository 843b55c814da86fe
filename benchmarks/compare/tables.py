"""The page of `benchmarks.compare`: a table with ratios, and the circumstances of the measurements."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.compare.task import FULL_LENGTH


@dataclass(frozen=True)
class Contender:
    """The cost of the work with one contender.

    Attributes:
        wall_s: Seconds from the command to its end; None if it could not be measured.
        cpu_s: Seconds of all cores; None likewise.
        how: Whether the whole work was measured, and further notes.
        prunes: Whether some of its trials end early.
    """

    name: str
    wall_s: float | None
    cpu_s: float | None
    how: str
    prunes: bool = False


@dataclass(frozen=True)
class Page:
    """The text around the table.

    Attributes:
        trials: The number of trials of each contender.
        max_iters: Steps of a trial.
        note: Further notes; may be empty.
        circumstances: For each measurement: taken (UTC), load (of the minute before it) and machine.
        answered: The lines of the table of claims; may be empty.
    """

    trials: int
    max_iters: int
    note: str
    circumstances: Mapping[str, Mapping[str, Any]]
    answered: Sequence[str] = ()


HEADER = """# Benchmarks

The work: {trials} trials of {max_iters} steps of the study `bigram` (one seed). Made by
`python -m benchmarks.compare`. "Measured" means that the whole work was run.
"""

ESTIMATED_MEANS = """
"Estimated" means: the plain loop was timed for some steps and batches from states of each cell at steps 0, 500, 1500,
3000 and 5000 (trained with denormals kept). The cost of a run is the mean over its length times 5000 steps,
plus 11 evaluations of 200 batches of each split. Start-up counts once for each process, and parallel processes are
assumed to share the work without waiting, which favours them. Each is the mean of several such measurements.

The service and these measurements took turns of a few seconds on the whole machine, so that all met the same changes of
its speed: while one ran, the others were paused, and only the time of its own turns counts.
"""

SHORT = """
This is a quick run: evaluations and start-up take a far larger share of such short trials than of trials of 5000 steps,
and the cells that slow down late have not done so yet. The ratios say nothing about the whole study.
"""

GPU = "The same work on a GPU: [gpu-benchmarks.md](gpu-benchmarks.md)."
STEPS = "The cost of a single step, by shape: [steps.md](steps.md)."


def markdown(contenders: Sequence[Contender], page: Page) -> str:
    """The page: trials per hour, and the speed-up of the last two contenders over each of the others."""
    unpruned, pruned = contenders[-2:]
    lines = [
        HEADER.format(trials=page.trials, max_iters=page.max_iters),
        *([ESTIMATED_MEANS.strip(), ""] if any(each.how.startswith("estimated") for each in contenders) else []),
        *([SHORT.strip(), ""] if page.max_iters != FULL_LENGTH else []),
        "| way | time | trials an hour | CPU time | speed-up without pruning | speed-up with the default pruner "
        "| figures |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for each in contenders:
        hourly = "–" if each.wall_s is None else f"{3600 * page.trials / each.wall_s:.0f}"
        ratios = f"{_ratio(each.wall_s, unpruned.wall_s)} | {_ratio(each.wall_s, pruned.wall_s)}"
        times = f"{minutes(each.wall_s)} | {hourly} | {minutes(each.cpu_s)}"
        lines.append(f"| {each.name} | {times} | {ratios} | {each.how} |")
    if page.note:
        lines += ["", page.note]
    if page.answered:
        lines += ["", *page.answered, "", "## Measurements"]
    return "\n".join([*lines, "", *_taken(page.circumstances), "", GPU, STEPS, ""])


def _taken(circumstances: Mapping[str, Mapping[str, Any]]) -> list[str]:
    machines = sorted({each["machine"] for each in circumstances.values()})
    lines = ["| measurement | started, UTC | load before it |", "| --- | --- | ---: |"]
    lines += [f"| {name} | {each['taken']} | {each['load']:.1f} |" for name, each in circumstances.items()]
    return [*(f"Machine: {name}." for name in machines), "", *lines]


def minutes(seconds: float | None) -> str:
    """A time as the page shows it."""
    return "–" if seconds is None else f"{seconds / 60:.1f} min"


def _ratio(other_s: float | None, ours_s: float | None) -> str:
    return "–" if other_s is None or ours_s is None else f"{other_s / ours_s:.1f}"


def machine() -> str:
    """Processor, cores, memory and versions, in one sentence without a name of the machine."""
    cores = len(os.sched_getaffinity(0))
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("torch", "optuna", "ray")
    versions = ", ".join(f"{name} {version}" for name in packages if (version := _version(name)))
    return (
        f"{_processor()}, {cores} cores, {memory_gib:.0f} GiB, {_gpu()}; Python {platform.python_version()}, {versions}"
    )


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


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
