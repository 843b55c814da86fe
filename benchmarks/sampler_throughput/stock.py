"""One process of `study.optimize`, with the arguments URL NAME SAMPLER SEED TRIALS OBJECTIVE.

With the URL `memory:N` it creates the study in memory, with N ended trials.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import optuna

from benchmarks.sampler_functions import SAMPLERS
from benchmarks.sampler_throughput import objective as objectives
from benchmarks.sampler_throughput.history import ended_trials

# With the 5 s that sqlite3 waits for a lock, one of eight processes ended with "database is locked".
WAITING = {"connect_args": {"timeout": 600}}


def optimize(arguments: Sequence[str]) -> None:
    """Let Optuna work on a number of trials."""
    url, name, sampler, seed, trials, objective = arguments
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    make = SAMPLERS[sampler](int(seed))
    storage = None if url.startswith("memory:") else optuna.storages.RDBStorage(url, WAITING)
    if storage is None:
        study = optuna.create_study(sampler=make)
        study.add_trials(ended_trials(int(url.removeprefix("memory:"))))
    else:
        study = optuna.load_study(study_name=name, storage=storage, sampler=make)
    study.optimize(getattr(objectives, objective), n_trials=int(trials))
    ended = time.time()
    if storage is not None:
        storage.engine.dispose()
    (Path(os.environ[objectives.GATE]) / f"{os.getpid()}.ended").write_text(str(ended))


if __name__ == "__main__":
    optimize(sys.argv[1:])
