"""A stand-in objective: a made-up curve that takes as long as told, to exercise everything around the training.

Study files name it as `objective = "fake_objective:start"`; workers find it on their Python path.
Its losses form a chain, each made of the one before, so that a run that loses, repeats or swaps a step anywhere ends
with other digits.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from search.objectives.corpus import Corpus
from search.objectives.errors import CheckpointError
from search.objectives.protocol import Evaluation
from search.objectives.settings import TrainingSettings


class StandInRun:
    """Takes STANDIN_MS milliseconds a trial (default 10), spread over its steps."""

    def __init__(self, cell: Mapping[str, Any], seed: int, settings: TrainingSettings) -> None:
        self._cell, self._settings = cell, settings
        self._identity = json.dumps({**cell, "seed": seed}, sort_keys=True)
        self._step_s = float(os.environ.get("STANDIN_MS", "10")) / 1000 / settings.max_iters
        self._step, self._link = 0, self._identity
        self._curve: list[Evaluation] = []
        # "error" is an error of every seed, "error@8" of seed 8 alone.
        fault, _, only = str(cell.get("fault", "")).partition("@")
        self._fault = fault if only in ("", str(seed)) else ""

    @property
    def finished(self) -> bool:
        return bool(self._curve) and (self._curve[-1].diverged or self._curve[-1].step >= self._settings.max_iters)

    @property
    def curve(self) -> list[Evaluation]:
        return list(self._curve)

    def advance(self, should_stop: Callable[[], bool]) -> Evaluation | None:
        due = min(len(self._curve) * self._settings.eval_interval, self._settings.max_iters)
        while self._step < due:
            time.sleep(self._step_s)
            self._step += 1
            self._link = hashlib.sha256(f"{self._link} {self._step}".encode()).hexdigest()
            if should_stop() and self._step < due:
                return None
        self._misbehave()
        noise = int(hashlib.sha256(self._link.encode()).hexdigest()[:12], 16) / 16**12
        loss = 2.0 + noise + math.exp(-self._step / self._settings.max_iters)
        if self._fault == "nan" and self._step > 0:
            loss = math.nan
        self._curve.append(Evaluation(self._step, loss - 0.05, loss))
        return self._curve[-1]

    def _misbehave(self) -> None:
        fault = self._fault
        if fault == "error" and self._step > 0:
            raise ZeroDivisionError("made up")
        if fault == "memory" and self._step > 0:
            raise MemoryError("made up")
        if fault == "hog" and self._step > 0:
            hoard = []
            while True:
                hoard.append(bytearray(os.urandom(1)) * 50_000_000)
        if fault == "exit" and self._step > 0:
            os._exit(11)

    def save(self) -> bytes:
        curve = [[e.step, e.train_loss, e.val_loss] for e in self._curve]
        return json.dumps({"of": self._identity, "step": self._step, "link": self._link, "curve": curve}).encode()

    def restore(self, payload: bytes) -> None:
        state = json.loads(payload)
        if state["of"] != self._identity:
            raise CheckpointError("it is of another run")
        self._step, self._link = state["step"], state["link"]
        self._curve = [Evaluation(*point) for point in state["curve"]]

    def describe(self) -> dict[str, Any]:
        return {"n_params": 1, "tokens": self._step, "train_seconds": self._step * self._step_s}


def start(cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Corpus, device: str) -> StandInRun:
    return StandInRun(cell, seed, settings)


class Alternating:
    """Runs that take turns: a group of which nothing is expected but that it is one."""

    def __init__(self, runs: Sequence[StandInRun]) -> None:
        self._runs = list(runs)

    def advance(self, should_stop: Callable[[], bool]) -> list[tuple[StandInRun, Evaluation]]:
        evaluated = []
        for run in self._runs:
            evaluation = run.advance(should_stop)
            if evaluation is None:
                return []
            evaluated.append((run, evaluation))
        return evaluated

    def remove(self, leavers: Sequence[StandInRun]) -> None:
        self._runs = [run for run in self._runs if run not in leavers]


def stack_runs(runs: Sequence[StandInRun]) -> Alternating:
    return Alternating(runs)
