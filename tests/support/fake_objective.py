"""A fake objective: made-up curves in a fixed time, to test everything around the training.

Study files name it as `objective = "fake_objective:start"`; workers find it on their Python path.
Each loss is computed from the one before, so a run that loses, repeats or swaps a step ends with another loss. The
module imports only `search`: the compose tests copy this file into a container.

Environment:
    FAKE_TRIAL_MS: Milliseconds per trial, spread over its steps; 10 by default.
    FAKE_GATES: Steps at which trials wait for the test, as JSON; see `gates.Gate`.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import json
import math
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna import TrialPruned

from search.errors import UsageError
from search.objectives.corpus import Corpus
from search.objectives.errors import CheckpointError
from search.objectives.protocol import Evaluation
from search.objectives.settings import TrainingSettings
from search.storage.errors import LeaseLost, StorageUnavailable

GATE_POLL_S = 0.005
_trials_before = itertools.count()  # of this process


RAISED: dict[str, BaseException] = {
    "sys.exit(0)": SystemExit(0),
    "sys.exit(2)": SystemExit(2),
    "sys.exit(text)": SystemExit("no GPU"),
    "interrupt": KeyboardInterrupt(),
    "generator exit": GeneratorExit(),
    "storage": StorageUnavailable("a database of the objective's own"),
    "lease": LeaseLost("made up"),
    "usage": UsageError("wrong option"),
    "pruned": TrialPruned("it looks bad"),
    "CUDA": RuntimeError("CUDA error: device-side assert triggered"),
}


def _fork_and_exit() -> None:
    if (pid := os.fork()) == 0:
        raise SystemExit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


CALLED: dict[str, Callable[[], object]] = {
    "os._exit(0)": lambda: os._exit(0),
    "exit 0": lambda: ctypes.CDLL(None)._exit(0),  # as a library written in C
    "exit 2": lambda: ctypes.CDLL(None)._exit(2),
    "exit 75": lambda: ctypes.CDLL(None)._exit(75),
    "fork": _fork_and_exit,
    "thread": lambda: threading.Thread(target=time.sleep, args=(1000,), name="of the objective").start(),
    "deadlock": lambda: threading.Event().wait(),
    "child": lambda: subprocess.run(["sleep", "1000"], check=True),
    "child in its own session": lambda: subprocess.run(["sleep", "1000"], check=True, start_new_session=True),
}


class FakeRun:
    """One trial: a chain of hashes, and losses computed from them."""

    def __init__(self, cell: Mapping[str, Any], seed: int, settings: TrainingSettings) -> None:
        self._cell, self._settings = cell, settings
        self._identity = json.dumps({**cell, "seed": seed}, sort_keys=True)
        self._step_s = float(os.environ.get("FAKE_TRIAL_MS", "10")) / 1000 / settings.max_iters
        self._step, self._link = 0, self._identity
        self._curve: list[Evaluation] = []
        # "error" applies to every seed, "error@8" to seed 8 only.
        fault, _, only = str(cell.get("fault", "")).partition("@")
        self._fault = fault if only in ("", str(seed)) else ""
        self._gates = dict(_gates_of({**cell, "seed": seed}, next(_trials_before)))

    @property
    def finished(self) -> bool:
        return bool(self._curve) and (self._curve[-1].diverged or self._curve[-1].step >= self._settings.max_iters)

    @property
    def curve(self) -> list[Evaluation]:
        return list(self._curve)

    def advance(self, should_stop: Callable[[], bool]) -> Evaluation | None:
        due = min(len(self._curve) * self._settings.eval_interval, self._settings.max_iters)
        if self._step == 0:
            self._wait_at_gate(should_stop)
        while self._step < due:
            time.sleep(self._step_s)
            self._step += 1
            self._link = hashlib.sha256(f"{self._link} {self._step}".encode()).hexdigest()
            self._wait_at_gate(should_stop)
            if should_stop() and self._step < due:
                return None
        self._misbehave()
        noise = int(hashlib.sha256(self._link.encode()).hexdigest()[:12], 16) / 16**12
        loss = 2.0 + noise + math.exp(-self._step / self._settings.max_iters)
        if self._fault == "nan" and self._step > 0:
            loss = math.nan
        self._curve.append(Evaluation.of_losses(self._step, loss - 0.05, loss))
        return self._curve[-1]

    def _wait_at_gate(self, should_stop: Callable[[], bool]) -> None:
        folder = self._gates.pop(self._step, None)
        if folder is None:
            return
        name = hashlib.sha256(self._identity.encode()).hexdigest()[:12]
        (folder / f"reached-{os.getpid()}-{name}").touch()
        while not (folder / "open").exists() and not should_stop():
            time.sleep(GATE_POLL_S)

    def _misbehave(self) -> None:
        fault = self._fault
        if fault == "pruned at once":
            raise TrialPruned
        if fault == "error" and self._step > 0:
            raise ZeroDivisionError("made up")
        if fault == "memory" and self._step > 0:
            raise MemoryError("made up")
        if fault == "hog" and self._step > 0:
            hoard: list[bytearray] = []
            while True:
                hoard.append(bytearray(os.urandom(1)) * 50_000_000)
        if fault == "exit" and self._step > 0:
            os._exit(11)
        if self._step > 0 and fault in RAISED:
            raise RAISED[fault]
        if self._step > 0 and fault in CALLED:
            CALLED[fault]()

    def save(self) -> bytes:
        curve = [[e.step, e.train_loss, e.value] for e in self._curve]
        return json.dumps({"of": self._identity, "step": self._step, "link": self._link, "curve": curve}).encode()

    def restore(self, payload: bytes) -> None:
        state = json.loads(payload)
        if state["of"] != self._identity:
            raise CheckpointError("it belongs to another run")
        self._step, self._link = state["step"], state["link"]
        self._curve = [Evaluation.of_losses(*point) for point in state["curve"]]

    def describe(self) -> dict[str, Any]:
        return {"n_params": 1, "tokens": self._step, "train_seconds": self._step * self._step_s}


def _gates_of(cell: Mapping[str, Any], trials_before: int) -> Iterator[tuple[int, Path]]:
    """Yield the steps at which a trial of a cell waits, each with the folder of its gate."""
    for gate in json.loads(os.environ.get("FAKE_GATES", "[]")):
        if trials_before >= gate["after"] and any(wanted.items() <= cell.items() for wanted in gate["cells"]):
            yield gate["step"], Path(gate["folder"])


def start(cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Corpus, device: str) -> FakeRun:
    """Start a trial; the corpus and the device do not matter."""
    return FakeRun(cell, seed, settings)


class FakeGroup:
    """Runs that take turns, as a group of stacked models."""

    def __init__(self, runs: Sequence[FakeRun]) -> None:
        self._runs = list(runs)

    def advance(self, should_stop: Callable[[], bool]) -> list[tuple[FakeRun, Evaluation]]:
        evaluated = []
        for run in self._runs:
            evaluation = run.advance(should_stop)
            if evaluation is None:
                return []
            evaluated.append((run, evaluation))
        return evaluated

    def remove(self, leavers: Sequence[FakeRun]) -> None:
        self._runs = [run for run in self._runs if run not in leavers]


def stack_runs(runs: Sequence[FakeRun]) -> FakeGroup:
    """Train several runs as one group."""
    return FakeGroup(runs)
