"""How many trials of one shape a worker trains together: the number of `--fuse`, or what the objective says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from search.errors import UsageError

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
    """How many trials of one shape a worker trains together.

    Attributes:
        fuse: "off" trains every trial alone, "4" up to four together. With "auto" the objective decides for a GPU; on a
            CPU it is "off", because there a group gains little (see docs/benchmarks.md).
        device: As torch names it.
    """

    fuse: str
    device: str
    _measured: dict[str, int] = field(default_factory=dict)

    @property
    def packs(self) -> bool:
        """Whether the memory decides, for objectives whose trials can train beside those of other shapes."""
        return self.fuse == "auto" and self.device != "cpu"

    def of(self, shape: str, measure: Callable[[], int]) -> int:
        """Return how many trials of a shape to train together.

        Args:
            shape: Identifies the shape and everything else that the number depends on.
            measure: Asks the objective; called once per shape.
        """
        if self.fuse.isdecimal():
            return int(self.fuse)
        if not self.packs:
            return 1
        if shape not in self._measured:
            self._measured[shape] = max(1, measure())
        return self._measured[shape]
