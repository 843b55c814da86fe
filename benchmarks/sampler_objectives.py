"""The objectives of `benchmarks.samplers`: each waits, after its parameters were chosen, until its turn comes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import optuna

from benchmarks.sampler_functions import FUNCTIONS, RANGES

Parameters = Mapping[str, float]


@dataclass
class Turn:
    """What a trial and the one who holds it wait for."""

    chosen: threading.Event = field(default_factory=threading.Event)
    going_on: threading.Event = field(default_factory=threading.Event)


# The `turn` of the trial that a thread works on.
HOLDING = threading.local()


def branin(params: Parameters) -> float:
    """Its parameters are axes of the study file, as in the next two."""
    return _held("branin", params)


def hartmann6(params: Parameters) -> float:
    """In six dimensions."""
    return _held("hartmann6", params)


def ackley5(params: Parameters) -> float:
    """In five dimensions."""
    return _held("ackley5", params)


def suggested_branin(trial: optuna.Trial) -> float:
    """Suggests its parameters, as the next two do."""
    return _suggested("branin", trial)


def suggested_hartmann6(trial: optuna.Trial) -> float:
    """In six dimensions."""
    return _suggested("hartmann6", trial)


def suggested_ackley5(trial: optuna.Trial) -> float:
    """In five dimensions."""
    return _suggested("ackley5", trial)


def _suggested(name: str, trial: optuna.Trial) -> float:
    return _held(name, {axis: trial.suggest_float(axis, *limits) for axis, limits in RANGES[name].items()})


def _held(name: str, params: Parameters) -> float:
    turn: Turn = HOLDING.turn
    turn.chosen.set()
    turn.going_on.wait()
    return FUNCTIONS[name](params)
