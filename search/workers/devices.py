"""Finds the devices of this machine and assigns them to workers."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from search.errors import UsageError
from search.imports import importing
from search.workers.cpu_quota import cpu_count

# What a launcher tells the workers of a machine: the share of its GPU's memory that one may take, and their number.
SHARE, GPU_WORKERS = "SEARCH_GPU_SHARE", "SEARCH_GPU_WORKERS"

# Of a worker on a CPU core. Libraries read them when they are imported.
CPU_VARIABLES = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

# Files that the drivers of NVIDIA, WSL and AMD create. Where nothing points at a GPU, torch is not imported to check:
# that would take longer than everything else that the launcher does.
_DRIVER_FILES = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


@dataclass(frozen=True)
class Accelerators:
    """The devices of this machine that torch can train on, besides the CPU.

    Attributes:
        kind: What torch calls them: "cuda" (those of ROCm too), "xpu", "mps".
        count: How many.
        visible: The environment variable that binds a process to one of them; "" if there is none.
    """

    kind: str = "cuda"
    count: int = 0
    visible: str = "CUDA_VISIBLE_DEVICES"


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
        devices: "auto", "cpu", "cuda" (all GPUs), or a list such as "cuda:0,1"; where torch finds GPUs of another kind,
            that in place of "cuda".
        workers: "auto" or a positive number; more workers than GPUs share them in turn.

    Raises:
        UsageError: A device does not exist, or `workers` is not a positive number.
    """
    found = Accelerators() if devices == "cpu" else accelerators()
    gpus = _chosen_gpus(devices, found)
    count = _worker_count(workers, len(gpus) or cpu_count())
    if not gpus:
        return [WorkerSlot("cpu", CPU_VARIABLES, f"cpu-{i}") for i in range(count)]
    places = [(i // len(gpus), gpus[i % len(gpus)]) for i in range(count)]
    return [
        WorkerSlot(
            f"{found.kind}:0",
            {
                **_binding(found, gpu),
                # Workers that share a GPU must leave each other memory.
                SHARE: str(1 / sum(other == gpu for _, other in places)),
                GPU_WORKERS: str(count),
            },
            f"{found.kind}-{gpu}" + (f".{turn}" if turn else ""),
        )
        for turn, gpu in places
    ]


def check_device(device: str) -> None:
    """Check that a worker's device exists.

    Raises:
        UsageError: The device is not "cpu", "cuda" or "cuda:N", or this machine has no such GPU.
    """
    found = Accelerators() if device == "cpu" else accelerators()
    there = ["cpu", *([found.kind] if found.count else []), *(f"{found.kind}:{gpu}" for gpu in range(found.count))]
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


def _chosen_gpus(devices: str, found: Accelerators) -> list[int]:
    if devices == "cpu":
        return []
    available, named = found.count, "CUDA" if found.kind == "cuda" else found.kind.upper()
    if devices == "auto":
        return list(range(available))
    kind, colon, numbers = devices.partition(":")
    there = (
        f"this machine has {available} {named} GPU(s)"
        if available
        else "this machine has no CUDA GPU that torch can use"
    )
    if kind != found.kind:
        name = found.kind
        raise UsageError(f"--devices {devices}: choices are auto, cpu, {name}, {name}:0,1,…; {there}")
    if not colon:
        chosen = list(range(available))
    elif all(part.strip().isdecimal() for part in numbers.split(",")):
        chosen = list(dict.fromkeys(int(part) for part in numbers.split(",")))
    else:
        raise UsageError(f"--devices {devices}: write the GPUs as numbers, such as {found.kind}:0,1")
    if not chosen or max(chosen) >= available:
        raise UsageError(f"--devices {devices}: {there}; use --devices cpu, or auto")
    return chosen


def accelerators() -> Accelerators:
    """What torch can train on besides the CPU; torch is imported only if something points at a GPU."""
    if not may_have_gpu():
        return Accelerators()
    with importing():
        import torch

    if not torch.accelerator.is_available():
        return Accelerators()
    kind, count = torch.accelerator.current_accelerator(), torch.accelerator.device_count()
    assert kind is not None, "one is available"
    variables = {
        "cuda": "HIP_VISIBLE_DEVICES" if torch.version.hip else "CUDA_VISIBLE_DEVICES",
        "xpu": "ZE_AFFINITY_MASK",
    }
    return Accelerators(kind.type, count, variables.get(kind.type, ""))


def may_have_gpu() -> bool:
    """Whether something points at a GPU; torch is not imported."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    with suppress(PackageNotFoundError):
        if "+xpu" in version("torch"):  # Intel's drivers are on most laptops
            return True
    # A variable that names the GPUs of a process means that there are some, whatever their driver's files are called.
    named = any(os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"))
    return named or any(Path(name).exists() for name in _DRIVER_FILES)


def _binding(found: Accelerators, gpu: int) -> dict[str, str]:
    """The variables that let a process see one GPU alone, which torch then numbers 0."""
    if not found.visible:
        return {}
    # If the variable is set, torch numbers only the GPUs in it. ROCm reads that of CUDA too.
    named = os.environ.get(found.visible) or ("" if found.kind == "xpu" else os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    return {found.visible: named.split(",")[gpu].strip() if named else str(gpu)}
