"""Studies of any size, planned by lm-search and then ended in bulk, as if their trials had been trained."""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState
from sqlalchemy import Connection, Select, Table, bindparam, insert, literal, select, union_all, update

from search.options import PlanningOptions
from search.planning import load_study
from search.storage import optuna_layout, optuna_tables
from search.storage.database import MANY_ROWS, Database
from search.storage.optuna_tables import Parameter
from search.storage.planning import plan
from search.storage.schema import queue_table
from search.storage.slots import REPETITION, SLOT, is_empty_slot
from search.storage.values import compact_json
from search.study.definition import MAX_SEED
from search.study.planner import Study, study_plans

STEPS = range(0, 5001, 500)
# What a worker records of each trial.
FACTS = {"n_params": 1234, "train_seconds": 1.5, "tokens": 81920, "outcome": "complete"}
MOST_LEVELS = MOST_CELLS = 1_000
MOST_TRIALS = 100_000  # of one study
# A study with a sampler has two axes.
_RATE, _WIDTH = FloatDistribution(1e-4, 1e-1, log=True), FloatDistribution(8.0, 512.0)

_OBJECTIVE = '''\
"""An objective of no cost: 11 evaluations."""

import math


def train(params, seed):
    """Yield losses that fall to a level of the cell and seed."""
    level = 2.3 + 0.3 * math.sin(hash((*params.values(), seed)))
    for step in range(0, 5001, 500):
        yield step, level + 2.0 * math.exp(-step / 700)
'''


@dataclass(frozen=True)
class Kind:
    """A kind of study.

    Attributes:
        title: What it is, for the table.
        is_sampled: Whether a sampler has chosen its cells.
    """

    name: str
    title: str
    is_sampled: bool = False

    def text(self, trials: int) -> str:
        """The study file with `trials` trials, or with seeds a few more."""
        head = 'objective = "scale_objective:train"\n'
        if self.is_sampled:
            axes = f"rate = {{low = {_RATE.low}, high = {_RATE.high}, log = true}}\n"
            axes += f"width = {{low = {_WIDTH.low}, high = {_WIDTH.high}}}\n"
            return f'{head}trials = {trials}\n[sampler]\nname = "random"\n[axes]\n{axes}'
        if self.name == "seeds":
            cells = min(MOST_CELLS, trials // 10) // 10 * 10
            return f"{head}seeds = {math.ceil(trials / cells)}\n[grid]\n" + _axes(cells // 10, 10)
        levels = min(MOST_LEVELS, trials)
        return f"{head}[grid]\n" + _axes(trials // levels, levels)


def _axes(rates: int, widths: int) -> str:
    return f"rate = {json.dumps(list(range(1, rates + 1)))}\nwidth = {json.dumps(list(range(1, widths + 1)))}\n"


KINDS = {
    each.name: each
    for each in (
        Kind("grid", "grid, 1,000 values of an axis"),
        Kind("seeds", "1,000 cells with many seeds"),
        Kind("sampled", "chosen by a sampler", is_sampled=True),
    )
}


def write_study(kind: Kind, trials: int, folder: Path) -> Path:
    """Write the file of a study and its objective; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scale_objective.py").write_text(_OBJECTIVE)
    file = folder / f"{kind.name}{trials}.toml"
    file.write_text(kind.text(trials))
    return file


def plan_study(database: Database, file: Path, storage: str) -> Study:
    """Plan a study in an open database."""
    study = load_study(PlanningOptions(study=str(file), storage=storage))
    plan(database, study_plans(study))
    return study


def end_trials(database: Database, study: str, most: int | None = None) -> None:
    """End the first trials of a planned study as complete: with cells, curves, values and facts.

    Args:
        most: How many; None for all.
    """
    database.write(lambda connection: _end_trials(connection, study, most))
    # As a server does by itself while trials end one after another.
    database.update_statistics([queue_table, *optuna_tables.TRIAL_TABLES], MANY_ROWS)


def _end_trials(connection: Connection, study: str, most: int | None) -> None:
    now = time.time()
    _fill_slots(connection, study)
    queue = queue_table.c
    chosen = select(queue.trial_id).where(queue.study == study)
    if most is not None:
        chosen = chosen.where(queue.number < most)
    level = 2.3 + 0.3 * ((queue.number * 7919) % 1009) / 1009.0  # spread over 0.3
    trials = select(queue.trial_id, level.label("level")).where(queue.trial_id.in_(chosen)).subquery()
    steps = [select(literal(step).label("step"), literal(2.0 * math.exp(-step / 700)).label("fall")) for step in STEPS]
    falls = union_all(*steps).subquery()
    points = select(trials.c.trial_id, falls.c.step, trials.c.level + falls.c.fall).join_from(
        trials, falls, literal(True)
    )
    _copy(connection, optuna_layout.trial_intermediate_values, points)
    _copy(connection, optuna_layout.trial_values, select(trials.c.trial_id, literal(0), trials.c.level))
    for key, value in FACTS.items():
        attrs = select(trials.c.trial_id, literal(key), literal(json.dumps(value)))
        _copy(connection, optuna_layout.trial_user_attributes, attrs)
    optunas = optuna_layout.trials
    times = {"datetime_start": optuna_tables.utc(now - 2), "datetime_complete": optuna_tables.utc(now)}
    ended = update(optunas).where(optunas.c.trial_id.in_(chosen))
    connection.execute(ended.values(state=TrialState.COMPLETE, **times))
    done = {"state": "done", "outcome": "complete", "step": STEPS[-1], "highest_step": STEPS[-1]}
    # They end one after another: a pruner reads those of the last seconds again.
    ends = now - 60 - 0.01 * queue.number
    done |= {"token": 1, "attempts": 1, "started_at": ends - 2, "finished_at": ends}
    mine = queue.study == study if most is None else (queue.study == study) & (queue.number < most)
    connection.execute(update(queue_table).where(mine).values(**done, value=level, val_loss=level))


_COLUMNS = {
    optuna_layout.trial_intermediate_values: ["trial_id", "step", "intermediate_value", "intermediate_value_type"],
    optuna_layout.trial_values: ["trial_id", "objective", "value", "value_type"],
    optuna_layout.trial_user_attributes: ["trial_id", "key", "value_json"],
}


def _copy(connection: Connection, table: Table, rows: Select[Any]) -> None:
    names = _COLUMNS[table]
    if names[-1].endswith("_type"):  # what Optuna notes beside each value
        kind = table.c[names[-1]].type
        rows = rows.add_columns(literal(kind.python_type["FINITE"], kind))
    connection.execute(insert(table).from_select(names, rows))


def _fill_slots(connection: Connection, study: str) -> None:
    """Give the trials of a sampler's study cells, as `search.storage.slot_filling` stores them."""
    queue = queue_table.c
    rows = connection.execute(select(queue.id, queue.trial_id, queue.cell).where(queue.study == study)).all()
    draw = random.Random(0)
    cells, parameters = [], []
    for row in rows:
        if not is_empty_slot(row.cell):
            continue
        named = json.loads(row.cell)
        cell = {"rate": math.exp(draw.uniform(math.log(_RATE.low), math.log(_RATE.high)))}
        cell["width"] = draw.uniform(_WIDTH.low, _WIDTH.high)
        text = compact_json({**cell, "seed": named["seed"], SLOT: named[SLOT], REPETITION: named[REPETITION]})
        cells.append({"at": row.id, "text": text})
        seed = Parameter(named["seed"], IntDistribution(0, MAX_SEED))
        found = {"rate": Parameter(cell["rate"], _RATE), "width": Parameter(cell["width"], _WIDTH), "seed": seed}
        parameters.append((row.trial_id, found))
    if cells:
        connection.execute(update(queue_table).where(queue.id == bindparam("at")).values(cell=bindparam("text")), cells)
        optuna_tables._insert_parameters(connection, parameters)
