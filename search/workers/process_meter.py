"""Records what this process takes from its start, so that a report can say what a whole study has cost."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from search.storage.database import Database
from search.storage.errors import StorageUnavailable
from search.storage.process_costs import ProcessCost, store_process
from search.storage.texts import error_text
from search.workers.energy import EnergyMeter

log = logging.getLogger("search.worker")

# How often a process stores what it has taken, in seconds: one that is killed loses as much at most.
STORE_S = 15.0


class ProcessMeter:
    """Measures this process.

    Args:
        owner: The name under which it claims trials.
        device: As torch names it; `NO_DEVICE` for the process of a run.
        with_children: Whether programs that it has started and waited for count too.
        from_start: Whether to measure from its start, which its imports are part of, or from now on.
    """

    def __init__(self, owner: str, device: str, with_children: bool = True, from_start: bool = True) -> None:
        self._identity, self._owner, self._device = uuid4().hex, owner, device
        self._with_children, self._began = with_children, time.monotonic()
        self._age_s, self._before_s = (process_age_s(), 0.0) if from_start else (0.0, self._cpu_s())
        self._energy = EnergyMeter(device) if device else None

    def cost(self) -> ProcessCost:
        """What it has taken so far."""
        wall_s = self._age_s + time.monotonic() - self._began
        joules = None if self._energy is None else self._energy.joules()
        cpu_s = self._cpu_s() - self._before_s
        return ProcessCost(self._identity, self._owner, self._device, cpu_s, wall_s, joules)

    def _cpu_s(self) -> float:
        times = os.times()
        own_s = times.user + times.system
        return own_s + times.children_user + times.children_system if self._with_children else own_s


@contextmanager
def metered(database: Database, uid: str, meter: ProcessMeter) -> Iterator[None]:
    """Store what this process takes, from time to time and at the end.

    Args:
        uid: The planning of the study that it works for.
    """
    ended = threading.Event()

    def store_now_and_then() -> None:
        while not ended.wait(STORE_S):
            _store(database, uid, meter)

    thread = threading.Thread(target=store_now_and_then, name="meter", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        _store(database, uid, meter)


def _store(database: Database, uid: str, meter: ProcessMeter) -> None:
    try:
        store_process(database, uid, meter.cost())
    except Exception as error:  # what a process takes is worth no failure
        level = logging.DEBUG if isinstance(error, StorageUnavailable) else logging.WARNING
        log.log(level, "cannot store what this process takes: %s", error_text(error))


def process_age_s() -> float:
    """Seconds since this process was started; 0.0 where the system does not tell."""
    try:
        # The name, in parentheses, can contain anything.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - began_s)
    except (OSError, ValueError, AttributeError, IndexError):
        return 0.0
