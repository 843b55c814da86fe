"""How many runs to train at the same time: measured on the device, with the shapes of the run."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

import torch

from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.stacked_runs import RunGroup

MOST = 64  # runs; a worker that crashes sends them all back to their checkpoints
LEAST_GAIN = 0.05  # of the time of a step and run, for twice as many runs
LEAST_FREE = 0.2  # of the memory of the device
WARM_UP_STEPS = 3
TIMED_STEPS = 10


def best_group_size(begin: Callable[[int], LanguageModelRun], device: torch.device, most: int = MOST) -> int:
    """Double the group as long as a step gets cheaper for each of its runs, and memory is left.

    Args:
        begin: Makes a run of a seed, on `device`.
        device: Where the runs train.
        most: Where to stop in any case.

    Returns:
        1 when groups do not pay, or when there is not even the memory for two.
    """
    size, cost_s = 1, _step_s(begin, device, 1)
    while size * 2 <= most:
        try:
            next_s = _step_s(begin, device, size * 2)
        except torch.OutOfMemoryError:
            break
        if next_s > (1 - LEAST_GAIN) * cost_s or _free_share(device) < LEAST_FREE:
            break
        size, cost_s = size * 2, next_s
    _forget(device)
    return size


def _step_s(begin: Callable[[int], LanguageModelRun], device: torch.device, size: int) -> float:
    """Seconds of one step for each of `size` runs together: the median of some."""
    _forget(device)
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


def _forget(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _free_share(device: torch.device) -> float:
    """The share of the device's memory that was free at the worst moment; 1.0 for a CPU, which is not measured."""
    if device.type != "cuda":
        return 1.0
    free, total = torch.cuda.mem_get_info(device)
    unused_peak = torch.cuda.max_memory_reserved(device) - torch.cuda.memory_reserved(device)
    return (free - unused_peak) / total
