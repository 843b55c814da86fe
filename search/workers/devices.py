"""Finds the devices of this machine and assigns them to workers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from search.errors import UsageError
from search.workers.cpu_quota import cpu_count

# Files that the drivers of NVIDIA, WSL and AMD create. Without any of them there is no GPU, and importing torch to
# check would take longer than everything else that the launcher does.
_DRIVER_FILES = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


@dataclass(frozen=True)
class WorkerSlot:
    """A place for one worker process.

    Attributes:
        device: What torch calls the device inside that process.
        environment: Variables that bind the process to it.
        label: Name for logs and file names: "cpu-0", "cuda-1".
    """

    device: str
    environment: Mapping[str, str]
    label: str


def worker_slots(devices: str, workers: str) -> list[WorkerSlot]:
    """Return one slot per worker: one for each GPU, or for each CPU core, unless `workers` is a number.

    Args:
        devices: "auto", "cpu", "cuda" (all GPUs), or a list such as "cuda:0,1".
        workers: "auto" or a positive number; more workers than GPUs share them in turn.

    Raises:
        UsageError: A device does not exist, or `workers` is not a positive number.
    """
    gpus = _chosen_gpus(devices)
    count = _worker_count(workers, len(gpus) or cpu_count())
    if not gpus:
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        return [WorkerSlot("cpu", {**threads, "CUDA_VISIBLE_DEVICES": ""}, f"cpu-{i}") for i in range(count)]
    places = [(i // len(gpus), gpus[i % len(gpus)]) for i in range(count)]
    return [
        WorkerSlot(
            "cuda:0",
            {
                "CUDA_VISIBLE_DEVICES": _visible(gpu),
                # Workers that share a GPU must leave each other memory.
                "SEARCH_GPU_SHARE": str(1 / sum(other == gpu for _, other in places)),
            },
            f"cuda-{gpu}" + (f".{turn}" if turn else ""),
        )
        for turn, gpu in places
    ]


def check_device(device: str) -> None:
    """Check that a worker's device exists.

    Raises:
        UsageError: The device is not "cpu", "cuda" or "cuda:N", or this machine has no such GPU.
    """
    gpus = 0 if device == "cpu" else _gpu_count()
    there = ["cpu", *(["cuda"] if gpus else []), *(f"cuda:{gpu}" for gpu in range(gpus))]
    if device not in there:
        raise UsageError(f"--device {device}: this machine has {', '.join(there)}")


def _worker_count(workers: str, automatic: int) -> int:
    if workers == "auto":
        return automatic
    try:
        count = int(workers)
    except ValueError:
        count = 0
    if count < 1:
        raise UsageError(f"--workers {workers}: give a number from 1 up, or auto (here {automatic})")
    return count


def _chosen_gpus(devices: str) -> list[int]:
    if devices == "cpu":
        return []
    available = _gpu_count()
    if devices == "auto":
        return list(range(available))
    kind, colon, numbers = devices.partition(":")
    there = (
        f"this machine has {available} CUDA GPU(s)" if available else "this machine has no CUDA GPU that torch can use"
    )
    if kind != "cuda":
        raise UsageError(f"--devices {devices}: choices are auto, cpu, cuda, cuda:0,1,…; {there}")
    if not colon:
        chosen = list(range(available))
    elif all(part.strip().isdecimal() for part in numbers.split(",")):
        chosen = list(dict.fromkeys(int(part) for part in numbers.split(",")))
    else:
        raise UsageError(f"--devices {devices}: write the GPUs as numbers, such as cuda:0,1")
    if not chosen or max(chosen) >= available:
        raise UsageError(f"--devices {devices}: {there}; use --devices cpu, or auto")
    return chosen


def _gpu_count() -> int:
    if not any(Path(name).exists() for name in _DRIVER_FILES):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _visible(gpu: int) -> str:
    # If the variable is set, torch numbers only the GPUs in it.
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",")[gpu].strip() if named else str(gpu)
