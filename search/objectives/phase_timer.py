"""Where the time of a worker goes: seconds by kind of work. No torch here."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable


class PhaseTimer:
    """Adds up the seconds between its calls, each under the name of the work just done.

    Attributes:
        seconds: By kind of work, so far.
        wait_for_device: Called before the clock is read. A GPU works on while Python goes ahead, so without it the
            seconds are those of giving orders; with it every phase waits, and training as a whole is slower.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.wait_for_device: Callable[[], None] | None = None
        self._since = time.perf_counter()

    def begin(self) -> None:
        """Restart the clock without booking the elapsed time."""
        self._since = time.perf_counter()

    def end(self, work: str) -> None:
        """What was done since the last call was `work`."""
        if self.wait_for_device is not None:
            self.wait_for_device()
        now = time.perf_counter()
        self.seconds[work] += now - self._since
        self._since = now

    def add(self, other: PhaseTimer) -> None:
        """Take over the seconds of another, which starts again at none."""
        for work, seconds in other.seconds.items():
            self.seconds[work] += seconds
        other.seconds.clear()
