"""A worker's picture of a study for its sampler: whatever happens, it is that of a fresh look, and cheap to keep."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import NSGAIISampler
from optuna.trial import FrozenTrial
from queue_work import end_trials, plan_text
from sqlalchemy import Connection, Engine, delete, event, func, select, update
from study_files import sqlite

from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.leases import Lease, Report
from search.storage.optuna_queries import read_parameters
from search.storage.queue import TrialQueue
from search.storage.schema import queue_table
from search.storage.slot_history import SlotHistory
from search.storage.slots import is_empty_slot, slot_of, slot_text
from search.storage.state_transitions import Outcome, retry_failed
from search.strategies import slot_sampling
from search.strategies.samplers import ask, make_sampler
from search.strategies.shown_trials import ShownTrials
from search.strategies.slot_sampling import make_sampling, merged
from search.strategies.warm_start import warm_started
from search.study.definition import load_definition
from search.study.planner import Study, ensure_planned, study_plans
from search.study.search_space import SamplerSettings
from search.study.stored import StoredStudy, read_stored_study

TEXT = """
objective = "fake_objective:start"
sampler = { name = "%s"%s }
trials = %d
seeds = %d
first_seed = 3

[axes]
x = { low = 0.0, high = 1.0 }
kind = ["a", "b"]
"""


def stored(database: Database) -> StoredStudy:
    study = read_stored_study(database, "s")
    assert study is not None
    return study


def refreshed(database: Database, history: SlotHistory | None = None) -> SlotHistory:
    history = history or SlotHistory(database, "s", stored(database).planning, merged)
    database.snapshot(history.refresh)
    return history


def picture(history: SlotHistory, slots: int) -> list[Any]:
    """All that a choice can be made from."""
    trials, notes = history.shown()
    cells = [history.cell_of(slot) for slot in range(slots)]
    return [
        [(slot, each.state, each.values, each.params, each.system_attrs, each.intermediate_values)
         for slot, each in trials.items()],
        notes, cells, [sorted(history.seeds_of(cell)) for cell in cells if cell is not None], history.n_filled,
        history.definition, [history.empty_trials(slot) for slot in range(slots)],
    ]  # fmt: skip


class Story:
    """What workers and other programs do to a study, in a random order."""

    def __init__(self, database: Database, folder: Path, seed: int) -> None:
        self.database, self.folder, self.random = database, folder, random.Random(seed)
        self.slots, self.seeds = 12, 2
        self.plan()
        self.queue = TrialQueue(database)
        self.leases: list[Lease] = []

    def plan(self) -> None:
        text = TEXT % ("tpe", ", n_startup_trials = 3", self.slots, self.seeds)
        plan_text(self.database, self.folder, text)

    def claim(self) -> None:
        leases = self.queue.claim(["s"], f"worker {self.random.random()}")
        sampling = make_sampling(self.database, stored(self.database))
        assert sampling is not None
        self.leases += [sampling.fill(each) for each in leases] if self.random.random() < 0.9 else leases

    def _take(self) -> Lease | None:
        return self.leases.pop(self.random.randrange(len(self.leases))) if self.leases else None

    def end(self) -> None:
        if (lease := self._take()) is not None:
            outcomes: list[Outcome] = ["complete", "pruned", "diverged", "failed"]
            value, outcome = self.random.random(), self.random.choice(outcomes)
            self.queue.report([Report(lease, 1, value, value)])
            self.queue.finish(lease, outcome, value)

    def end_late(self) -> None:
        """A worker commits its transaction some seconds after its timestamp."""
        self.end()
        last = select(func.max(queue_table.c.finished_at)).scalar_subquery()
        earlier = update(queue_table).where(queue_table.c.finished_at == last).values(finished_at=last - 4.0)
        self.database.write(lambda connection: connection.execute(earlier))

    def release(self) -> None:
        if (lease := self._take()) is not None:
            self.queue.release(lease)

    def retry(self) -> None:
        uid = stored(self.database).planning
        self.database.write(lambda connection: retry_failed(connection, [uid]))

    def grow(self) -> None:
        self.slots, self.seeds = self.slots + self.random.randint(0, 1), self.seeds + self.random.randint(0, 1)
        self.plan()

    def delete(self) -> None:
        """Another program deletes a trial that has a cell."""
        filled = [each for each in self.leases if not is_empty_slot(each.cell)]
        if self.random.random() < 0.2 and filled:
            self.leases.remove(lease := filled[0])
            gone = delete(queue_table).where(queue_table.c.id == lease.queue_id)
            self.database.write(lambda connection: connection.execute(gone))


@pytest.mark.parametrize("seed", range(3))
def test_history_is_that_of_a_fresh_look(database: Database, tmp_path: Path, seed: int) -> None:
    story = Story(database, tmp_path, seed)
    history = refreshed(database)
    acts = [story.claim] * 5 + [story.end] * 4 + [story.end_late, story.release, story.retry, story.grow, story.delete]
    for step in range(60):
        act = story.random.choice(acts)
        act()
        if story.random.random() < 0.6:
            found = picture(refreshed(database, history), story.slots)
            assert found == picture(refreshed(database), story.slots), (step, act.__name__)
    assert history.n_filled > 5


def test_study_that_has_grown_is_read_again(database: Database, tmp_path: Path) -> None:
    text = TEXT % ("tpe", ", n_startup_trials = 3", 9, 1)
    plan_text(database, tmp_path, text)
    sampling = make_sampling(database, stored(database))
    assert sampling is not None
    end_trials(database, most=5)
    history = refreshed(database)
    history.shown()
    plan_text(database, tmp_path, text.replace('["a", "b"]', '["c", "a", "b"]').replace("high = 1.0", "high = 2.0"))
    kinds = {str(trial.distributions) for trial in refreshed(database, history).shown()[0].values()}
    assert len(kinds) == 1
    assert "'c', 'a', 'b'" in kinds.pop()
    [lease] = TrialQueue(database).claim(["s"], "ann")
    sampling.fill(lease)  # a worker that has started before
    assert database.read(lambda connection: read_parameters(connection, [lease.trial_id]))


def test_rows_of_the_first_version_are_counted(database: Database, tmp_path: Path) -> None:
    """They name the repetition first."""
    plan_text(database, tmp_path, TEXT % ("random", "", 4, 1))
    old = '{"@repetition":0,"@slot":%d,"seed":3}'
    for slot in range(4):
        same = queue_table.c.cell == slot_text(slot, 0, 3)
        database.write(partial(Connection.execute, statement=update(queue_table).where(same).values(cell=old % slot)))
    history = refreshed(database)
    assert history.n_filled == 0
    end_trials(database, most=2)
    assert picture(refreshed(database, history), 4) == picture(refreshed(database), 4)
    end_trials(database)
    assert refreshed(database, history).n_filled == 4


@contextmanager
def counted_rows(engine: Engine) -> Iterator[list[int]]:
    """Counts the rows that SQLite hands out: one number, which grows."""
    count = [0]

    def counting(_: object, row: Any) -> Any:
        count[0] += 1
        return row

    def start(connection: Any, *_: object) -> None:
        connection.row_factory = counting

    event.listen(engine, "checkout", start)
    yield count
    event.remove(engine, "checkout", start)


@pytest.mark.parametrize("sampler", ["tpe", "random", "QMCSampler"])
def test_cost_of_a_choice_does_not_grow_with_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    """The rows that are read for it, and the trials that are made for the sampler."""
    merges: list[int] = []

    def counting(seeds: Any, n_values: int) -> FrozenTrial:
        merges.append(len(seeds))
        return merged(seeds, n_values)

    monkeypatch.setattr(slot_sampling, "merged", counting)
    with open_database(sqlite(tmp_path), create=True).closing() as database:
        plan_text(database, tmp_path, TEXT % (sampler, "", 100, 1))
        sampling, queue = make_sampling(database, stored(database)), TrialQueue(database)
        assert sampling is not None
        costs = []
        for _ in range(100):
            [lease] = queue.claim(["s"], "ann")
            with counted_rows(database.engine) as rows:
                lease = sampling.fill(lease)
            queue.finish(lease, "complete", float(len(lease.cell)))
            costs.append(rows[0])
    assert 0 < max(costs[80:]) <= max(costs[10:30]) <= 40, costs
    assert len(merges) <= 100


def test_trials_are_shown_without_a_copy() -> None:
    space: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1)}
    trials = [optuna.create_trial(params={"x": at / 9}, distributions=space, value=abs(at - 4)) for at in range(9)]
    storage = ShownTrials()
    study = optuna.create_study(storage=storage)
    storage.show(study._study_id, trials)
    assert all(shown is trial for shown, trial in zip(study.get_trials(deepcopy=False), trials, strict=True))
    assert (study.best_value, study.best_trial.number, study.ask().number) == (0, 4, 9)
    settings = SamplerSettings.model_validate({"name": "tpe", "n_startup_trials": 3})
    before = [each.params for each in trials]
    found = [ask(make_sampler(settings, 1, 9), space, trials, {}).values for _ in range(2)]
    assert [each.params for each in trials] == before
    stock = optuna.create_study(sampler=make_sampler(settings, 1, 9))
    stock.add_trials(trials)
    assert found == [{"x": stock.ask().suggest_float("x", 0, 1)}] * 2


@pytest.fixture
def parents(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """The first generation's parents, as each choice has got them: where x is, and the values."""
    seen: list[list[Any]] = []
    inherited = NSGAIISampler.get_parent_population

    def watched(sampler: NSGAIISampler, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        found = inherited(sampler, study, generation)
        if generation == 1:
            seen.append(sorted((each.params["x"], each.values) for each in found))
        return found

    monkeypatch.setattr(NSGAIISampler, "get_parent_population", watched)
    return seen


GENETIC = TEXT % ("NSGAIISampler", ", population_size = 4", 12, 1)


def test_a_generation_keeps_its_parents(tmp_path: Path, parents: list[list[Any]]) -> None:
    """The sampler names them by ids that are stored, whatever else it is shown later."""
    with open_database(sqlite(tmp_path), create=True).closing() as database:
        plan_text(database, tmp_path, TEXT % ("random", "", 3, 1), name="other")
        end_trials(database, "other")
        plan_text(database, tmp_path, GENETIC)
        sampling, queue = make_sampling(database, stored(database)), TrialQueue(database)
        assert sampling is not None
        [late] = queue.claim(["s"], "late")
        end_trials(database, most=5)
        queue.finish(sampling.fill(late), "complete", 1.0)
        end_trials(database, most=1)
        study = Study(load_definition(str(tmp_path / "s.toml")), "s", None)
        [plan] = study_plans(study)
        ensure_planned(database, study, [warm_started(database, study, plan, "other")])
        end_trials(database, most=1)
    assert [len(each) for each in parents] == [4, 4, 4, 4]
    assert all(each == parents[0] for each in parents)


def test_a_parent_that_gets_a_further_seed_is_replaced(tmp_path: Path, parents: list[list[Any]]) -> None:
    """Until that has ended it has no value to compare."""
    with open_database(sqlite(tmp_path), create=True).closing() as database:
        plan_text(database, tmp_path, GENETIC)
        end_trials(database, most=6)
        plan_text(database, tmp_path, GENETIC, "seeds=2")
        sampling = make_sampling(database, stored(database))
        assert sampling is not None
        [further] = TrialQueue(database).claim(["s"], "busy")
        assert slot_of(sampling.fill(further).cell) == 0
        end_trials(database, most=7)  # the further seeds of the others, and a new slot
    assert [len(each) for each in parents[-2:]] == [4, 3]
    assert all(values is not None for each in parents for _, values in each)
