"""What a device takes, where it tells: NVIDIA GPUs through nvidia-ml-py, Intel and AMD processors through Linux."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Measures the energy of the device of this process, however many processes share it.

    Args:
        device: As torch names it.
    """

    def __init__(self, device: str) -> None:
        self._read = _gpu_counter(device) if device.startswith("cuda") else _processor_counter()
        self._before = None if self._read is None else self._read()
        self._joules = 0.0

    def joules(self) -> float | None:
        """The energy since the meter was made, if it is asked every few minutes; None if it is not measured."""
        if self._read is None or self._before is None:
            return None
        now = self._read()
        if now is None:
            return None
        for name, (counted, turns_at) in now.items():
            passed = counted - self._before.get(name, (counted, turns_at))[0]
            self._joules += passed if passed >= 0 else passed + turns_at
        self._before = now
        return self._joules


# By part of the device: the joules that its counter shows, and at how many it begins again.
Counters = Mapping[str, tuple[float, float]]


def _processor_counter() -> Callable[[], Counters | None] | None:
    """All processors of this machine; None where only root may read them, or there are none."""
    # Parts of a processor, such as its cores, have two numbers.
    packages = [each for each in sorted(POWERCAP.glob("intel-rapl:*")) if each.name.count(":") == 1]

    def read() -> Counters | None:
        try:
            return {
                each.name: (_joules(each / "energy_uj"), _joules(each / "max_energy_range_uj")) for each in packages
            }
        except (OSError, ValueError):
            return None

    return read if packages and read() is not None else None


def _joules(file: Path) -> float:
    return int(file.read_text()) / 1e6


def _gpu_counter(device: str) -> Callable[[], Counters | None] | None:
    """The whole card; None without the package nvidia-ml-py, or with a GPU that does not tell."""
    torch: Any = sys.modules.get("torch")
    with suppress(Exception):  # the driver can refuse anything
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
        # Not the number: CUDA_VISIBLE_DEVICES hides cards from torch alone.
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        card = nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")

        def read() -> Counters | None:
            with suppress(Exception):
                return {"card": (nvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1e3, 0.0)}
            return None

        return read if read() is not None else None
    return None
