"""Whether samplers choose as well here as in Optuna itself: `python -m benchmarks.samplers`.

Each sampler searches three functions, with many seeds: in studies on SQLite with one worker or four, whose parameters
are axes of the study file or suggested by the objective, and in Optuna with `ask` and `tell`, with one trial or four at
a time. A rank test compares the best values. The figures do not depend on the machine's load.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import threading
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
from benchmarks.sampler_objectives import HOLDING, Turn
from search.command_line import new_program
from search.errors import user_errors
from search.option_fields import Option, Options
from search.options import PlanningOptions
from search.planning import open_planned
from search.study.no_arguments import without_arguments
from search.workers.setup import open_worker

FIRST_SEED = 100
KINDS = ("axes", "suggested")


@dataclass(frozen=True, kw_only=True)
class SamplerOptions(Options):
    """The options of this program."""

    samplers: Annotated[str, Option(f"Some of {', '.join(SAMPLERS)}.", "NAME,NAME")] = ",".join(SAMPLERS)
    functions: Annotated[str, Option(f"Some of {', '.join(FUNCTIONS)}.", "NAME,NAME")] = ",".join(FUNCTIONS)
    parameters: Annotated[str, Option("Some of axes, suggested.", "KIND,KIND")] = ",".join(KINDS)
    workers: Annotated[str, Option("Trials at a time.", "N,N")] = "1,4"
    seeds: Annotated[int, Option("Studies of each kind.", "N", minimum=2)] = 50
    trials: Annotated[int, Option("Of a study.", "N", minimum=1)] = 60


def measure(options: SamplerOptions) -> None:
    """Compare the best values of studies here with those of Optuna itself."""
    with user_errors():
        samplers, functions = names_of(options.samplers, SAMPLERS), names_of(options.functions, FUNCTIONS)
        counts, kinds = numbers_of(options.workers), names_of(options.parameters, KINDS)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    print(
        f"Best of {options.trials} trials, median of {options.seeds} seeds; p: how often a difference of this size "
        "towards worse values here would come by chance.\n\n"
        "| function | sampler | at a time | Optuna | axes here | p | suggested here | p |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        flush=True,
    )
    for function, sampler, workers in itertools.product(functions, samplers, counts):
        seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
        stock = [best_in_optuna(function, sampler, workers, options.trials, seed) for seed in seeds]
        cells = [f"{statistics.median(stock):.4f}"]
        for kind in KINDS:
            if kind not in kinds:
                cells += ["", ""]
                continue
            ours = [best_here(function, sampler, workers, options.trials, seed, kind) for seed in seeds]
            p = mannwhitneyu(ours, stock, alternative="greater").pvalue
            cells += [f"{statistics.median(ours):.4f}", f"{p:.2f}"]
        print(f"| {function} | {sampler} | {workers} | {' | '.join(cells)} |", flush=True)


def best_here(function: str, sampler: str, workers: int, trials: int, seed: int, kind: str) -> float:
    """The best value of a study, whose workers hold as many trials at a time.

    Args:
        kind: One of `KINDS`.
    """
    text = f'sampler = "{sampler}"\ntrials = {trials}\nfirst_seed = {seed}\n'
    if kind == "axes":
        axes = (f"{name} = {{ low = {low}, high = {high} }}\n" for name, (low, high) in RANGES[function].items())
        text = f'objective = "benchmarks.sampler_objectives:{function}"\n{text}[axes]\n{"".join(axes)}'
    else:
        text = f'objective = "benchmarks.sampler_objectives:suggested_{function}"\n{text}'
    # Several trials run at a time in this process, and each puts back the command line that it found, in any order.
    with (
        without_arguments(),
        tempfile.TemporaryDirectory(prefix="lm-search-samplers-") as name,
        ExitStack() as stack,
    ):
        folder = Path(name)
        file = folder / "quality.toml"
        file.write_text(text)
        options = PlanningOptions(study=str(file), storage=f"sqlite:///{folder}/quality.db", out=folder / "out")
        database, _ = open_planned(options)
        stack.callback(database.engine.dispose)
        opened = [open_worker(str(file), options.storage, "cpu", out=folder / "out") for _ in range(workers)]
        for worker in opened:
            stack.callback(worker.queue.database.engine.dispose)
        held: deque[_Held] = deque()
        for turn in range(trials):
            if len(held) == workers:
                held.popleft().end()
            held.append(_Held(opened[turn % workers]))
        while held:
            held.popleft().end()
        storage = optuna.storages.RDBStorage(options.storage)
        best: float = optuna.load_study(study_name="quality", storage=storage).best_value
        storage.engine.dispose()
        return best


class _Held:
    """A trial whose parameters are chosen, in a thread that waits to go on."""

    def __init__(self, worker: Any) -> None:
        self._worker, self._turn = worker, Turn()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        self._turn.chosen.wait()

    def _work(self) -> None:
        HOLDING.turn = self._turn
        try:
            self._worker._work_on(self._worker._claim(list(self._worker.studies)))
        finally:
            self._turn.chosen.set()

    def end(self) -> None:
        """Let the trial go on to its end."""
        self._turn.going_on.set()
        self._thread.join()


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
