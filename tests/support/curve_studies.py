"""Studies whose trials have the curves that the benchmarks measured, without any training."""

from __future__ import annotations

import csv
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finished_studies import CORPUS, SAMPLE
from sqlalchemy import text
from study_files import sqlite

from benchmarks.pruning.curves import DATA
from search.objectives.corpus import encode
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.values import canonical
from search.study.definition import load_definition
from search.study.planner import Study, ensure_planned

FIRST_SEED, SEEDS = 1337, 5
BASELINE = 2.4739  # nats per character, of the default corpus
FACTS = ("study", "seed", "step", "train_loss", "val_loss", "seconds")
NAMES = ["bigram", "bigram-baselines"]

# The last step of a trial; 0 for one that was never planned.
LastStep = Callable[[Mapping[str, Any], int], int]


@functools.cache
def measured() -> Mapping[tuple[str, int], Mapping[int, tuple[float, float, float]]]:
    """Step to training loss, validation loss and seconds, by canonical cell and seed."""
    found: dict[tuple[str, int], dict[int, tuple[float, float, float]]] = {}
    with DATA.open(encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            cell = {
                name: int(value) if value.isdigit() else value
                for name, value in line.items()
                if name not in FACTS and value
            }
            of_trial = found.setdefault((canonical(cell), int(line["seed"])), {})
            numbers = float(line["train_loss"]), float(line["val_loss"]), float(line["seconds"])
            of_trial[int(line["step"])] = numbers
    return found


def everything(cell: Mapping[str, Any], seed: int) -> int:
    """Every trial is complete."""
    return 5000


def where_they_decide(cell: Mapping[str, Any], seed: int) -> int:
    """Three seeds of each cell, and five of those that may be the best."""
    at = seed - FIRST_SEED
    is_open = (cell.get("n_embd") == 64 and cell["block_size"] >= 32) or cell["model"] != "bigram_v2"
    return 5000 if at < (5 if is_open else 3) else 0


def one_seed_pruned(cell: Mapping[str, Any], seed: int) -> int:
    """One seed, of which the five best at step 500 are trained to their end."""
    if seed != FIRST_SEED:
        return 0
    at_500 = sorted(curve[500][1] for (_, each), curve in measured().items() if each == seed)
    return 5000 if measured()[canonical(cell), seed][500][1] <= at_500[4] or cell["model"] != "bigram_v2" else 500


@contextmanager
def measured_study(folder: Path, last_step: LastStep = everything) -> Iterator[Database]:
    """The built-in study `bigram` and its baselines in a database of `folder`."""
    definition = load_definition("bigram").model_copy(update={"seeds": SEEDS})
    with open_database(sqlite(folder), create=True).closing() as database:
        ensure_planned(database, Study(definition, "bigram", encode("tinyshakespeare", CORPUS)))
        with database.engine.begin() as connection:
            rows = connection.execute(text("SELECT trial_id, cell FROM search_runs")).all()
            ended = [(row.trial_id, json.loads(row.cell)) for row in rows]
            connection.execute(
                text("UPDATE study_user_attributes SET value_json = :value WHERE key = 'bigram_baseline'"),
                {"value": json.dumps(BASELINE)},
            )
            for trial_id, cell in ended:
                seed = cell.pop("seed")
                _end(connection, trial_id, cell, seed, last_step(cell, seed))
        yield database


def _end(connection: Any, trial_id: int, cell: Mapping[str, Any], seed: int, last: int) -> None:
    if last == 0:
        for table in ("search_runs", "trial_params", "trials"):
            connection.execute(text(f"DELETE FROM {table} WHERE trial_id = :id"), {"id": trial_id})
        return
    curve = measured()[canonical(cell), seed]
    outcome = "complete" if last == max(curve) else "pruned"
    train_loss, val_loss, seconds = curve[last]
    begun = 1_700_000_000 + 6 * trial_id
    values = {"id": trial_id, "train": train_loss, "val": val_loss, "step": last, "outcome": outcome, "at": begun}
    connection.execute(
        text(
            "UPDATE search_runs SET state = 'done', outcome = :outcome, step = :step, value = :val, val_loss = :val,"
            " train_loss = :train, started_at = :at WHERE trial_id = :id"
        ),
        values,
    )
    connection.execute(
        text(
            "UPDATE trials SET state = :state, datetime_start = datetime(:at, 'unixepoch') || '.000000',"
            " datetime_complete = datetime(:end, 'unixepoch') || '.000000' WHERE trial_id = :id"
        ),
        {"id": trial_id, "state": outcome.upper(), "at": begun, "end": begun + math.ceil(seconds * last / 5000)},
    )
    connection.execute(
        text(
            "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)"
            " VALUES (:id, :step, :value, 'FINITE')"
        ),
        [{"id": trial_id, "step": step, "value": each[1]} for step, each in curve.items() if step <= last],
    )
    parameters = cell.get("n_embd", 65) * 260 + cell["block_size"] * 10
    facts: dict[str, Any] = {"n_params": parameters, "tokens": 64 * cell["block_size"] * last, "train_seconds": seconds}
    if outcome == "complete":
        facts |= {
            "sample": SAMPLE,
            "val_loss_by_position": [3.2 - 0.9 * at / (1 + at) for at in range(cell["block_size"])],
        }
    connection.execute(
        text("INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (:id, :key, :value)"),
        [{"id": trial_id, "key": key, "value": json.dumps(value)} for key, value in facts.items()],
    )
