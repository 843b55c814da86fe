"""How many runs to train at the same time: measured on the device, with the shapes of the run."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

import torch

from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.stacked_runs import RunGroup

MAX_GROUP_SIZE = 64  # runs; if a worker crashes, all of them resume from their checkpoints
MIN_GAIN = 0.05  # of the time per step and run, for twice as many runs
MIN_FREE = 0.2  # of the memory of the device
WARM_UP_STEPS = 3
TIMED_STEPS = 10


def best_group_size(begin: Callable[[int], LanguageModelRun], device: torch.device, most: int = MAX_GROUP_SIZE) -> int:
    """Double the group while this makes a step cheaper per run and leaves memory free.

    Args:
        begin: Makes a run with a given seed, on `device`.
        device: Where the runs train.
        most: The largest size to try.

    Returns:
        The group size; 1 if groups are not faster, or if two runs do not fit into memory.
    """
    size, cost_s = 1, _step_s(begin, device, 1)
    while size * 2 <= most:
        try:
            next_s = _step_s(begin, device, size * 2)
        except torch.OutOfMemoryError:
            break
        if next_s > (1 - MIN_GAIN) * cost_s or _free_share(device) < MIN_FREE:
            break
        size, cost_s = size * 2, next_s
    _free_memory(device)
    return size


def _step_s(begin: Callable[[int], LanguageModelRun], device: torch.device, size: int) -> float:
    """Seconds per step and run in a group of `size` runs: the median of `TIMED_STEPS`."""
    _free_memory(device)
    group = RunGroup([begin(seed) for seed in range(size)])
    seconds = []
    for _ in range(WARM_UP_STEPS + TIMED_STEPS):
        began = time.perf_counter()
        group.step()
        _wait(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[WARM_UP_STEPS:]) / size


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _free_memory(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _free_share(device: torch.device) -> float:
    """The smallest free share of the device's memory since the last reset; 1.0 for a CPU, which is not measured."""
    if device.type != "cuda":
        return 1.0
    free, total = torch.cuda.mem_get_info(device)
    unused_peak = torch.cuda.max_memory_reserved(device) - torch.cuda.memory_reserved(device)
    return (free - unused_peak) / total
