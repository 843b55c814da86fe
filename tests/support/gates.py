"""Gates stop trials of the fake objective at chosen steps, so that a test need not hunt for the moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A limit for waits that take well under a second on an idle machine.
PATIENCE_S = 100.0


@dataclass(frozen=True)
class Gate:
    """A step at which trials wait until the test opens the gate, or until their worker is asked to stop.

    Attributes:
        folder: The folder of this gate; it gets a file for each trial at the gate, and the file that opens it.
        step: The training step after which trials wait; an evaluation that is due there happens afterwards.
        cells: Trials wait if their cell (with its seed) has all values of one of these; all by default.
        after: The number of trials that each worker trains without waiting, before the first that waits.
    """

    folder: Path
    step: int
    cells: Sequence[Mapping[str, Any]] = ({},)
    after: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def reached(self) -> list[int]:
        """The process ids of the workers whose trials have reached the gate, one per trial."""
        return [int(file.name.split("-")[1]) for file in self.folder.glob("reached-*")]

    def wait(self, trials: int = 1) -> list[int]:
        """Wait until trials stand at the gate; return the process ids of their workers, one per trial."""
        wait_until(lambda: len(self.reached()) >= trials, f"{trials} trials at step {self.step}")
        return self.reached()

    def open(self) -> None:
        """Let all trials pass, later ones included."""
        (self.folder / "open").touch()


def gates_environment(*gates: Gate) -> dict[str, str]:
    """The environment of a worker whose trials stop at gates."""
    described = [
        {"folder": str(gate.folder), "step": gate.step, "cells": list(gate.cells), "after": gate.after}
        for gate in gates
    ]
    return {"FAKE_GATES": json.dumps(described)}


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Poll every few milliseconds until `condition` holds.

    Args:
        condition: Called without arguments.
        what: What the test waits for, for the error message.
        timeout_s: The limit in seconds.

    Raises:
        AssertionError: The condition did not hold within `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for: {what}"
        time.sleep(0.02)
