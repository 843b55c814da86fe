"""Measures how a worker spends its time: seconds by kind of work. No torch here."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable


class PhaseTimer:
    """Adds up the seconds between its calls, each under the name of the work just done.

    Attributes:
        seconds: The total so far, by kind of work.
        wait_for_device: Called before the clock is read. A GPU runs asynchronously, so without this the seconds are
            those of launching kernels; with it every phase waits for the device, which slows training down.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.wait_for_device: Callable[[], None] | None = None
        self._since = time.perf_counter()

    def begin(self) -> None:
        """Restart the clock without booking the elapsed time."""
        self._since = time.perf_counter()

    def end(self, work: str) -> None:
        """Book the time since the last call under `work`."""
        if self.wait_for_device is not None:
            self.wait_for_device()
        now = time.perf_counter()
        self.seconds[work] += now - self._since
        self._since = now

    def add(self, other: PhaseTimer) -> None:
        """Add the seconds of another timer, and clear that one."""
        for work, seconds in other.seconds.items():
            self.seconds[work] += seconds
        other.seconds.clear()
