"""Whether samplers choose as well here as in Optuna itself: `python -m benchmarks.samplers`.

Each sampler searches three functions, with many seeds: in studies on SQLite whose slots one worker or four fill, and in
Optuna with `ask` and `tell`, with one trial or four at a time. A rank test compares the best values. The figures do not
depend on the machine's load.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import warnings
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import optuna
from optuna.distributions import FloatDistribution
from scipy.stats import mannwhitneyu

from benchmarks.list_options import names_of, numbers_of
from benchmarks.sampler_functions import FUNCTIONS, RANGES, SAMPLERS
from search.command_line import new_program
from search.errors import user_errors
from search.option_fields import Option, Options
from search.options import PlanningOptions
from search.planning import open_planned
from search.workers.setup import open_worker

FIRST_SEED = 100


@dataclass(frozen=True, kw_only=True)
class SamplerOptions(Options):
    """The options of this program."""

    samplers: Annotated[str, Option(f"Some of {', '.join(SAMPLERS)}.", "NAME,NAME")] = ",".join(SAMPLERS)
    functions: Annotated[str, Option(f"Some of {', '.join(FUNCTIONS)}.", "NAME,NAME")] = ",".join(FUNCTIONS)
    workers: Annotated[str, Option("Trials at a time.", "N,N")] = "1,4"
    seeds: Annotated[int, Option("Studies of each kind.", "N", minimum=2)] = 50
    trials: Annotated[int, Option("Of a study.", "N", minimum=1)] = 60


def measure(options: SamplerOptions) -> None:
    """Compare the best values of studies here with those of Optuna itself."""
    with user_errors():
        samplers, functions = names_of(options.samplers, SAMPLERS), names_of(options.functions, FUNCTIONS)
        counts = numbers_of(options.workers)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    print(
        f"Best of {options.trials} trials, median of {options.seeds} seeds; p: how often a difference of this size "
        "towards worse values here would come by chance.\n\n"
        "| function | sampler | at a time | here | Optuna | p |\n| --- | --- | ---: | ---: | ---: | ---: |",
        flush=True,
    )
    for function in functions:
        for sampler in samplers:
            for workers in counts:
                seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
                ours = [best_here(function, sampler, workers, options.trials, seed) for seed in seeds]
                stock = [best_in_optuna(function, sampler, workers, options.trials, seed) for seed in seeds]
                p = mannwhitneyu(ours, stock, alternative="greater").pvalue
                medians = " | ".join(f"{statistics.median(each):.4f}" for each in (ours, stock))
                print(f"| {function} | {sampler} | {workers} | {medians} | {p:.2f} |", flush=True)


def best_here(function: str, sampler: str, workers: int, trials: int, seed: int) -> float:
    """The best value of a study, whose workers hold as many trials at a time."""
    axes = "".join(f"{name} = {{ low = {low}, high = {high} }}\n" for name, (low, high) in RANGES[function].items())
    text = f'objective = "benchmarks.sampler_functions:{function}"\nsampler = "{sampler}"\ntrials = {trials}\n'
    with tempfile.TemporaryDirectory(prefix="lm-search-samplers-") as name, ExitStack() as stack:
        folder = Path(name)
        file = folder / "quality.toml"
        file.write_text(f"{text}first_seed = {seed}\n[axes]\n{axes}")
        options = PlanningOptions(study=str(file), storage=f"sqlite:///{folder}/quality.db", out=folder / "out")
        database, _ = open_planned(options)
        stack.callback(database.engine.dispose)
        opened = [open_worker(str(file), options.storage, "cpu", out=folder / "out") for _ in range(workers)]
        for worker in opened:
            stack.callback(worker.queue.database.engine.dispose)
        held: deque[tuple[Any, Any]] = deque()
        for turn in range(trials):
            worker = opened[turn % workers]
            if len(held) == workers:
                _work_on_oldest(held)
            held.append((worker, worker._claim(list(worker.studies))))
        while held:
            _work_on_oldest(held)
        storage = optuna.storages.RDBStorage(options.storage)
        best: float = optuna.load_study(study_name="quality", storage=storage).best_value
        storage.engine.dispose()
        return best


def _work_on_oldest(held: deque[tuple[Any, Any]]) -> None:
    worker, lease = held.popleft()
    worker._work_on(lease)


def best_in_optuna(function: str, sampler: str, at_a_time: int, trials: int, seed: int) -> float:
    """The best value of a study of Optuna, in memory, which asks for as many trials before it tells the first value."""
    study = optuna.create_study(sampler=SAMPLERS[sampler](seed))
    space: dict[str, Any] = {name: FloatDistribution(*limits) for name, limits in RANGES[function].items()}
    held: deque[optuna.Trial] = deque()
    for _ in range(trials):
        if len(held) == at_a_time:
            _tell_oldest(study, held, function)
        held.append(study.ask(space))
    while held:
        _tell_oldest(study, held, function)
    return study.best_value


def _tell_oldest(study: optuna.Study, held: deque[optuna.Trial], function: str) -> None:
    trial = held.popleft()
    study.tell(trial, FUNCTIONS[function](trial.params))


app = new_program(measure, SamplerOptions, [("two samplers with few seeds", "--samplers random,tpe --seeds 10")])

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    app()
