"""How many trials of one shape a worker trains together: what `--fuse` says, or what a probe of the device finds."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from search.errors import UsageError

log = logging.getLogger("search.worker")

MOST = 1000


def check_fuse(fuse: str) -> None:
    """Make sure that a value of `--fuse` can be read.

    Raises:
        UsageError: It is not auto, off, or a number of trials.
    """
    if fuse not in ("auto", "off") and not (fuse.isdecimal() and 1 <= int(fuse) <= MOST):
        raise UsageError(f"--fuse {fuse}: choices are auto, off, or a number of trials from 1 to {MOST}")


@dataclass(frozen=True)
class GroupSizes:
    """The size of a fused group, by shape.

    Attributes:
        fuse: "off" trains every trial alone, "4" up to four together. "auto" probes a GPU, where a group costs
            little more than one trial; on a CPU it is "off", because there a group gains little (see
            docs/benchmarks.md).
        device: As torch names it.
        folder: Keeps what was probed, in group-sizes.json, so that each shape is probed once a kind of device.
    """

    fuse: str
    device: str
    folder: Path

    def of(self, shape: str, probe: Callable[[], int]) -> int:
        """How many trials of a shape to train together.

        Args:
            shape: Names the shape, and everything else that the probe depends on.
            probe: Measures it.
        """
        if self.fuse.isdecimal():
            return int(self.fuse)
        if self.fuse == "off" or self.device == "cpu":
            return 1
        key = f"{_device_name(self.device)}: {shape}"
        known = self._known()
        if key not in known:
            found = probe()
            log.info("%d trials at a time are best for %s", found, key)
            known = {**self._known(), key: found}  # another worker may have added to it meanwhile
            self._keep(known)
        return known[key]

    @property
    def _file(self) -> Path:
        return self.folder / "group-sizes.json"

    def _known(self) -> dict[str, int]:
        try:
            return {str(key): int(size) for key, size in json.loads(self._file.read_text(encoding="utf-8")).items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def _keep(self, known: dict[str, int]) -> None:
        aside = self._file.with_suffix(f".{os.getpid()}.tmp")
        with contextlib.suppress(OSError):  # it is probed again then
            self.folder.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps(known, indent=1), encoding="utf-8")
            aside.replace(self._file)


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
