"""A tracker that does what libraries do to the process that they are used in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from search.errors import UsageError
from search.trackers.protocol import Event

FAILS, DIES, HANGS = 1, 2, 3


class RudeTracker:
    """Prints, asks, installs hooks, and writes the steps of its events to a file.

    Args:
        target: The file. Once at each of these steps it fails, dies or hangs.
    """

    def __init__(self, target: str) -> None:
        if not target:
            raise UsageError("name a file")
        print("hello", sys.stdin.read())
        print("hello", file=sys.stderr)
        subprocess.run(["echo", "hello"], check=True)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.environ["RUDE"] = "yes"
        sys.excepthook = lambda *_: None
        self._file = Path(target)
        self._steps: list[int] = []

    def track(self, event: Event) -> None:
        step = event.step or 0
        if step in (FAILS, DIES, HANGS) and not self._has_met(step):
            if step == FAILS:
                raise ConnectionError("no answer")
            if step == DIES:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(600)
        self._steps.append(step)
        self._file.write_text(" ".join(map(str, self._steps)))

    def _has_met(self, step: int) -> bool:
        file = self._file.with_suffix(f".{step}")
        known = file.exists()
        file.touch()
        return known

    def close(self) -> None:
        self._file.with_suffix(".closed").touch()
