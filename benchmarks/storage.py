"""The cost of a trial in the database, compared with stock Optuna: `python -m benchmarks.storage`.

A trial is claimed, reports 11 evaluations, asks the pruner after each, and is finished. Stock Optuna does the same with
ask, 4 suggestions, report, should_prune and tell. Both take turns on the same kind of database, one trial each, so that
whatever else the machine does slows both.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import insert, update

from benchmarks import optuna_objective
from benchmarks.scale.studies import STEPS, end_trials
from search.objectives.corpus import Corpus, load_corpus
from search.statistics.ranking import ranked_rows
from search.storage import optuna_layout, optuna_tables
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.leases import Report
from search.storage.optuna_storage import SearchStorage
from search.storage.planning import plan
from search.storage.queries import counts
from search.storage.queue import TrialQueue
from search.storage.url import display_url
from search.strategies.pruning_judge import PruningJudge
from search.study.definition import load_definition
from search.study.planner import Study, study_plans
from search.study.pruner_settings import PrunerSettings

ROOT = Path(__file__).parent.parent
AXES: dict[str, list[Any]] = {
    "pe_type": ["randn", "sinpe", "rope"],
    "n_embd": [64, 128, 256],
    "block_size": [8, 16, 32, 64],
}
CELLS = math.prod(len(values) for values in AXES.values())
PRUNER = PrunerSettings(name="median")  # the one that Optuna has too
TARGET_MS = {"sqlite": 10.0, "postgresql": 15.0}
ANSWER_TARGET_S = 5.0


def study_file(folder: Path, trials: int) -> Path:
    """A study with about `trials` cells, for the fake objective of the tests."""
    axes = [f"{name} = {json.dumps(values)}" for name, values in AXES.items()]
    extra = f"dropout = {json.dumps(list(range(max(1, math.ceil(trials / CELLS)))))}"
    path = folder / f"bench{trials}.toml"
    path.write_text("\n".join(['objective = "fake_objective:start"', "[grid]", extra, *axes]) + "\n")
    return path


def curve(number: int) -> list[float]:
    """Losses of a trial at `STEPS`: falling to a level of the trial."""
    level = random.Random(number).uniform(2.3, 2.6)
    return [level + 2.0 * math.exp(-step / 700) for step in STEPS]


def ours(database: Database, corpus: Corpus, folder: Path, finished: int, wanted: int) -> Callable[[], None]:
    """Plan a study with `finished` finished trials; the answer runs one more."""
    # The finished cells come first; a second seed gives trials to be measured.
    definition = load_definition(str(study_file(folder, max(finished, wanted))))
    study = Study(definition.model_copy(update={"seeds": 2 if finished else 1}), definition.name, corpus)
    plan(database, study_plans(study))
    end_trials(database, study.name, finished)
    queue = TrialQueue(database)
    judge = PruningJudge(SearchStorage(database), study.name, PRUNER)

    return our_trial(queue, judge, study.name)


def our_trial(queue: TrialQueue, judge: PruningJudge, study: str) -> Callable[[], None]:
    """A function that claims a trial, reports 11 evaluations, asks the pruner after each, and ends it."""

    def one_trial() -> None:
        [lease] = queue.claim([study], "benchmark")
        trial = judge.trial(lease)
        for step, loss in zip(STEPS, curve(lease.number), strict=True):
            queue.report([Report(lease, step, loss, loss)])
            trial.intermediate_values[step] = loss
            judge.should_prune(trial)  # the answer is not followed, so that every trial costs 11 reports
        queue.finish(lease, "complete", loss, {"n_params": 1, "train_seconds": 1.0})

    return one_trial


def _insert_curves(connection: Any, curves: dict[int, list[float]]) -> None:
    points = [
        {"trial_id": trial, "step": step, "intermediate_value": loss, "intermediate_value_type": "FINITE"}
        for trial, losses in curves.items()
        for step, loss in zip(STEPS, losses, strict=True)
    ]
    connection.execute(insert(optuna_layout.trial_intermediate_values), points)
    values = [
        {"trial_id": trial, "objective": 0, "value": losses[-1], "value_type": "FINITE"}
        for trial, losses in curves.items()
    ]
    connection.execute(insert(optuna_layout.trial_values), values)


def stock(url: str, finished: int, trials: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """The same with stock Optuna; the grid has a cell for every trial, as its sampler requires."""
    storage = optuna.storages.RDBStorage(url)
    count = max(1, math.ceil((finished + trials) / CELLS))
    space: dict[str, list[Any]] = {**AXES, "seed": list(range(count))}
    # The grid sampler looks through all finished trials at each ask; at 10,000 that dominates, and the random
    # sampler shows the storage's.
    sampler = optuna.samplers.GridSampler(space, seed=0) if finished == 0 else optuna.samplers.RandomSampler(seed=0)
    pruner = optuna.pruners.MedianPruner(
        n_startup_trials=PRUNER.arguments["min_trials"],
        n_warmup_steps=PRUNER.arguments["warmup_steps"],
        n_min_trials=PRUNER.arguments["min_trials"],
    )
    study = optuna.create_study(study_name=f"stock{finished}", storage=storage, sampler=sampler, pruner=pruner)
    _fill_stock(url, study, finished, space)
    study = optuna.load_study(study_name=study.study_name, storage=storage, sampler=sampler, pruner=pruner)

    def one_trial() -> None:
        trial = study.ask()
        for name, values in space.items():
            trial.suggest_categorical(name, values)
        for step, loss in zip(STEPS, curve(trial.number), strict=True):
            trial.report(loss, step)
            trial.should_prune()
        study.tell(trial, loss)

    return one_trial, storage.engine.dispose


def _fill_stock(url: str, study: optuna.Study, finished: int, space: dict[str, list[Any]]) -> None:
    distributions = {name: optuna.distributions.CategoricalDistribution(values) for name, values in space.items()}
    parameters = [
        {
            name: optuna_tables.Parameter(random.Random(f"{n}{name}").choice(v), distributions[name])
            for name, v in space.items()
        }
        for n in range(finished)
    ]

    def work(connection: Any) -> None:
        created = optuna_tables.insert_waiting_trials(connection, study._study_id, parameters)
        now = optuna_tables.utc(time.time())
        complete = {"state": optuna.trial.TrialState.COMPLETE, "datetime_start": now, "datetime_complete": now}
        mine = optuna_layout.trials.c.study_id == study._study_id
        connection.execute(update(optuna_layout.trials).where(mine).values(complete))
        for start in range(0, len(created), 500):
            _insert_curves(connection, {trial: curve(number) for trial, number in created[start : start + 500]})

    with open_database(url, create=True).closing() as database:
        database.write(work)


def measure(new_url: Callable[[], str], finished: int, trials: int, corpus: Corpus, folder: Path) -> dict[str, Any]:
    """Medians of `trials` trials each, taken in turns, in milliseconds; and the answers of a finished study."""
    with ExitStack() as stack:
        url = new_url()
        database = stack.enter_context(open_database(url, create=True).closing())
        our_trial = ours(database, corpus, folder, finished, trials + 1)
        their_trial, dispose = stock(new_url(), finished, trials + 1)
        stack.callback(dispose)
        first = {"ours_first_ms": timed(our_trial)[0], "stock_first_ms": timed(their_trial)[0]}
        times = [(*timed(our_trial), *timed(their_trial)) for _ in range(trials)]
        names = ("ours_ms", "ours_cpu_ms", "stock_ms", "stock_cpu_ms")
        medians = {name: statistics.median(side) for name, side in zip(names, zip(*times, strict=True), strict=True)}
        return {"finished": finished, **medians, "ratio": medians["stock_ms"] / medians["ours_ms"], **first}


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Wall milliseconds, and CPU milliseconds of this process, which other load affects much less."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - clock) * 1000, (time.process_time() - processor) * 1000


def answers(url: str, finished: int, corpus: Corpus, folder: Path) -> dict[str, float]:
    """How long a finished study takes to answer, in seconds."""
    file = study_file(folder, finished)
    definition = load_definition(str(file))
    study = Study(definition, definition.name, corpus)
    with open_database(url, create=True).closing() as database:
        plan(database, study_plans(study))
        end_trials(database, study.name)
        took = {}
        answers: dict[str, Callable[[], object]] = {
            "planning again": lambda: plan(database, study_plans(study)),
            "counts": lambda: counts(database, study.names),
            "ranked_rows": lambda: ranked_rows(database, study.names),
        }
        for name, work in answers.items():
            started = time.perf_counter()
            work()
            took[name] = time.perf_counter() - started
    environment = {**os.environ, "SEARCH_STORAGE": url}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    command = [
        sys.executable,
        "-m",
        "search.run",
        "--study",
        str(file),
        "--quiet",
        "--json",
        "--out",
        str(folder / "out"),
    ]
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    took["python -m search.run"] = time.perf_counter() - started
    assert done.returncode == 0, done.stderr
    return took


@contextmanager
def databases(storage: str, folder: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the description of the database, and a function that makes an empty one."""
    numbers = iter(range(1000))
    if storage == "sqlite":
        yield "SQLite file in the temporary folder", lambda: f"sqlite:///{folder / f'{next(numbers)}.db'}"
    elif storage == "postgresql":
        from postgres import PostgresServer

        with PostgresServer() as server:
            yield "PostgreSQL started here, fsync off", lambda: server.create_database(f"bench{next(numbers)}")
    else:
        yield f"{display_url(storage)}, which must be empty", lambda: storage


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--storage", default="both", help="sqlite, postgresql, or the URL of an empty database")
    parser.add_argument("--trials", default="0,10000", help="finished trials in the study, comma-separated")
    parser.add_argument("--repeat", type=int, default=50, help="trials measured, each way")
    parser.add_argument("--objective-trials", type=int, default=1000, help="trials of an Optuna objective; 0: none")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT / "tests" / "support"))  # fake_objective, postgres
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = run(asked.storage, [int(part) for part in asked.trials.split(",") if part], asked.repeat)
    if asked.objective_trials:
        with tempfile.TemporaryDirectory(prefix="lm-search-benchmark-") as name:
            found["optuna_objective"] = optuna_objective.measure(Path(name), asked.objective_trials)
    print(json.dumps(found, indent=1) if asked.json else as_table(found))


def run(storage: str, sizes: list[int], repeat: int) -> dict[str, Any]:
    """Measure on every requested database."""
    corpus = load_corpus(None)
    found: list[dict[str, Any]] = []
    for kind in ("sqlite", "postgresql") if storage == "both" else (storage,):
        with (
            tempfile.TemporaryDirectory(prefix="lm-search-benchmark-") as name,
            databases(kind, Path(name)) as (what, new_url),
        ):
            costs = [measure(new_url, size, repeat, corpus, Path(name)) for size in sizes]
            largest = max(sizes, default=0)
            took = answers(new_url(), largest, corpus, Path(name)) if largest else {}
            found.append({"database": what, "target_ms": TARGET_MS.get(kind), "costs": costs, "answers_s": took})
    packages = ("optuna", "sqlalchemy", "psycopg")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in packages}},
        "repetitions": repeat,
        "databases": found,
    }


def as_table(found: dict[str, Any]) -> str:
    """The measurements as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [
        f"{found['date']}; {found['machine']}; {versions}",
        f"Cost of a trial: median of {found['repetitions']}, ours and stock Optuna in turns.",
        "",
        "| database | finished | ours ms | target ms | stock ms | ratio | CPU ms: ours, stock | first ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in found["databases"]:
        for cost in each["costs"]:
            target = f"{each['target_ms']:.0f}" if each["target_ms"] else "–"
            first = f"{cost['ours_first_ms']:.0f}, {cost['stock_first_ms']:.0f}"
            medians = f"{cost['ours_ms']:.1f} | {target} | {cost['stock_ms']:.1f} | {cost['ratio']:.1f}"
            cpu = f"{cost['ours_cpu_ms']:.1f}, {cost['stock_cpu_ms']:.1f}"
            lines.append(f"| {each['database']} | {cost['finished']:,} | {medians} | {cpu} | {first} |")
    for each in found["databases"]:
        for what, seconds in each["answers_s"].items():
            lines.append(f"\n{each['database']}, all finished: {what} {seconds:.2f} s")
    lines.append(f"\nTarget for the command: {ANSWER_TARGET_S:.0f} s.")
    if "optuna_objective" in found:
        lines.append(f"\n{optuna_objective.as_table(found['optuna_objective'])}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
