"""What is measured of a study of some size."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna

from benchmarks.scale.studies import MOST_TRIALS, STEPS, Kind, end_trials, plan_study, write_study
from benchmarks.storage import PRUNER, ROOT, curve, our_trial
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.optuna_storage import SearchStorage
from search.storage.queue import TrialQueue
from search.strategies.pruning_judge import PruningJudge
from search.web.dashboard_publisher import note


@dataclass(frozen=True)
class Cost:
    """One measurement.

    Attributes:
        seconds: Wall-clock time.
        cpu_seconds: Processor time of the process that was measured; other load affects it much less.
        megabytes: The most memory of a program; None if it was not a program.
        size: Bytes of what it wrote; None if that is not of interest.
    """

    seconds: float
    cpu_seconds: float
    megabytes: float | None = None
    size: int | None = None


def timed(work: Callable[[], object]) -> Cost:
    """Call a function in this process."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - clock, time.process_time() - processor)


def program(arguments: Sequence[str], folder: Path) -> Cost:
    """Run a program of search in a folder to its end.

    Raises:
        AssertionError: It failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    output = folder / "output"
    began = time.perf_counter()
    with output.open("wb") as file, (folder / "errors").open("wb") as errors:
        command = [sys.executable, "-m", "search", *arguments]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=errors)
        megabytes, ended, used = 0.0, 0, resource.struct_rusage(range(16))
        while not ended:
            # The most memory that `wait4` knows of includes this process, from which the other one was forked.
            megabytes = _most_memory(process.pid) or megabytes
            time.sleep(0.01)
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
    seconds = time.perf_counter() - began
    assert status == 0, (folder / "errors").read_text()
    return Cost(seconds, used.ru_utime + used.ru_stime, megabytes, output.stat().st_size)


def _most_memory(pid: int) -> float | None:
    """The most memory that a running process has had, in MB; None once it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def study_costs(url: str, kind: Kind, trials: int, folder: Path) -> Iterator[tuple[str, Cost]]:
    """Plan a study, end its trials, and measure what is asked of it; the fill itself is not measured."""
    file = write_study(kind, trials, folder)
    study = file.stem
    with open_database(url, create=True).closing() as database:
        yield "plan it", timed(lambda: plan_study(database, file, url))
        end_trials(database, study)
        yield "plan it again", timed(lambda: plan_study(database, file, url))
        yield "note in the dashboard", _note(database, study)
    named = ["--study", study, "--storage", url]
    yield "status", program(["status", *named], folder)
    for name in ("markdown", "csv", "json", "latex", "html"):
        yield f"report, {name}", program(["report", *named, "--format", name], folder)
    yield "run, all trials finished", program(["run", "--study", file.name, "--storage", url, "--quiet"], folder)


def _note(database: Database, study: str) -> Cost:
    texts: list[str] = []
    cost = timed(lambda: texts.append(note(database, [study])))
    return Cost(cost.seconds, cost.cpu_seconds, size=len(texts[0].encode()))


def trial_costs(url: str, kind: Kind, finished: int, repeat: int, folder: Path) -> Iterator[tuple[str, Cost]]:
    """A trial of a study with `finished` finished ones: claimed, 11 evaluations judged by the pruner, ended.

    Then stock Optuna does the same in the same database: ask, suggest, report, should_prune, tell. Each time is the
    median of `repeat` trials.
    """
    # A further seed of each cell gives the trials to be measured.
    finished = min(finished, MOST_TRIALS - 1_000)
    file = write_study(kind, finished + max(100, finished // 100), folder)
    with open_database(url, create=True).closing() as database:
        study = plan_study(database, file, url).name
        end_trials(database, study, finished)
        queue = TrialQueue(database)
        judge = PruningJudge(SearchStorage(database), study, PRUNER)

        one_trial = our_trial(queue, judge, study)
        yield "first trial", timed(one_trial)  # it reads what the pruner needs
        yield "trial", _median([timed(one_trial) for _ in range(repeat)])
    # With 100,000 trials one of stock Optuna takes many seconds.
    yield from _stock_trial_costs(url, study, max(1, min(repeat, 20_000 // finished)))


def _stock_trial_costs(url: str, name: str, repeat: int) -> Iterator[tuple[str, Cost]]:
    storage = optuna.storages.RDBStorage(url)
    pruner, sampler = optuna.pruners.MedianPruner(), optuna.samplers.RandomSampler(seed=0)
    study = optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=pruner)
    distributions = study.get_trials(deepcopy=False)[0].distributions

    def stock_trial() -> None:
        trial = study.ask(distributions)
        for step, loss in zip(STEPS, curve(trial.number), strict=True):
            trial.report(loss, step)
            trial.should_prune()
        study.tell(trial, loss)

    try:
        yield "stock Optuna: first trial", timed(stock_trial)
        yield "stock Optuna: trial", _median([timed(stock_trial) for _ in range(repeat)])
    finally:
        storage.engine.dispose()


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(
        statistics.median(each.seconds for each in costs), statistics.median(each.cpu_seconds for each in costs)
    )


def durable_write_s(folder: Path, repeat: int = 50) -> float:
    """The median time of one small synced write on this disk, in seconds."""
    times = []
    with (folder / "synced").open("wb") as file:
        for _ in range(repeat):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times)
