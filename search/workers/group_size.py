"""How many trials of one shape a worker trains together: the number of `--fuse`, or the result of a probe."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from search.errors import UsageError
from search.storage.private_files import make_private_folder, open_private

log = logging.getLogger("search.worker")

MAX_GROUP_SIZE = 1000


def check_fuse(fuse: str) -> None:
    """Check a value of `--fuse`.

    Raises:
        UsageError: The value is not auto, off, or a number of trials.
    """
    if fuse not in ("auto", "off") and not (fuse.isdecimal() and 1 <= int(fuse) <= MAX_GROUP_SIZE):
        raise UsageError(f"--fuse {fuse}: choices are auto, off, or a number of trials from 1 to {MAX_GROUP_SIZE}")


@dataclass(frozen=True)
class GroupSizes:
    """The size of a fused group, by shape.

    Attributes:
        fuse: "off" trains every trial alone, "4" up to four together. "auto" probes a GPU, where a group costs
            little more than one trial; on a CPU it is "off", because there a group gains little (see
            docs/benchmarks.md).
        device: As torch names it.
        folder: Results of probes are stored here, in group-sizes.json: one probe per shape and kind of device.
    """

    fuse: str
    device: str
    folder: Path

    def of(self, shape: str, probe: Callable[[], int]) -> int:
        """Return how many trials of a shape to train together.

        Args:
            shape: Identifies the shape and everything else that the probe depends on.
            probe: Measures the best number; called once per shape and kind of device.
        """
        if self.fuse.isdecimal():
            return int(self.fuse)
        if self.fuse == "off" or self.device == "cpu":
            return 1
        key = f"{_device_name(self.device)}: {shape}"
        sizes = self._read()
        if key not in sizes:
            best = probe()
            log.info("best group size for %s: %d trials", key, best)
            sizes = {**self._read(), key: best}  # another worker may have added an entry during the probe
            self._write(sizes)
        return sizes[key]

    @property
    def _file(self) -> Path:
        return self.folder / "group-sizes.json"

    def _read(self) -> dict[str, int]:
        try:
            return {str(key): int(size) for key, size in json.loads(self._file.read_text(encoding="utf-8")).items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def _write(self, sizes: dict[str, int]) -> None:
        aside = self._file.with_suffix(f".{os.getpid()}.tmp")
        with contextlib.suppress(OSError):  # without the file the next worker probes again
            make_private_folder(self.folder)
            with open_private(aside, "w") as file:
                json.dump(sizes, file, indent=1)
            aside.replace(self._file)


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
