"""A study that grows: only new cells are trained, earlier trials stay as they are, and Optuna can read all of them."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import optuna
import pytest
from deaths import Death, in_child
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from queue_work import end_trials, plan_text
from sample_study import expire, rows

from search.errors import UsageError
from search.options import PlanningOptions
from search.planning import open_planned
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.errors import StorageError
from search.storage.optuna_storage import SearchStorage
from search.storage.queue import TrialQueue
from search.strategies.slot_sampling import make_sampling
from search.study.stored import read_stored_study

GRID = """
objective = "fake_objective:start"
seeds = 2
[grid]
n_embd = [64, 128]
flag = [true, false]
"""
RANDOM = """
objective = "fake_objective:start"
sampler = { name = "tpe", n_startup_trials = 4 }
trials = 10
[axes]
n = { low = 4, high = 8, step = 2 }
lr = { low = 0.1, high = 0.2 }
hidden = { values = { small = [64] } }
"""


def loaded(database: Database) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=SearchStorage(database))


def without_distributions(trials: list[FrozenTrial]) -> list[Any]:
    return [
        (each.number, each.state, each.value, each.params, each.intermediate_values, each.user_attrs) for each in trials
    ]


@pytest.mark.parametrize("ended", [0, 3, 8])
def test_values_join_a_grid_wherever_it_stands(database: Database, tmp_path: Path, ended: int) -> None:
    assert plan_text(database, tmp_path, GRID) == 8
    end_trials(database, most=ended)
    before, kept = without_distributions(loaded(database).trials), rows(database, "s")

    # In front, between and behind the values that are there; the order of the file holds.
    grown = GRID.replace("[64, 128]", "[32, 64, 96, 128, 256]")
    assert plan_text(database, tmp_path, grown) == 12
    assert plan_text(database, tmp_path, grown) == 0

    study = loaded(database)
    assert without_distributions(study.trials)[:8] == before
    assert rows(database, "s")[:8] == kept
    assert {trial.distributions["n_embd"] for trial in study.trials} == {
        CategoricalDistribution([32, 64, 96, 128, 256])
    }
    assert len(end_trials(database)) == 20 - ended
    assert {trial.state for trial in loaded(database).trials} == {TrialState.COMPLETE}
    found = optuna.importance.get_param_importances(loaded(database), params=["n_embd", "flag"])
    assert set(found) == {"n_embd", "flag"}


def test_set_and_seeds_and_conditions_grow_too(database: Database, tmp_path: Path) -> None:
    text = 'objective = "fake_objective:start"\n[grid]\nmodel = ["gpt"]\n'
    text += 'n_head = { values = [2], when = { model = "gpt" } }\n'
    assert plan_text(database, tmp_path, text) == 1
    end_trials(database)
    # Another model, with an axis of its own, a value of a condition's axis, an excluded cell and an enqueued one.
    grown = (
        'exclude = [{ cell = "lstm", n = 2 }]\n'
        + text.replace('["gpt"]', '["gpt", "rnn"]')
        + (
            'cell = { values = ["gru", "lstm"], when = { model = "rnn" } }\n'
            'n = { values = [1, 2], when = { model = "rnn" } }\n'
        )
    )
    assert plan_text(database, tmp_path, grown) == 3
    assert plan_text(database, tmp_path, grown, "n_head=2,4", "seeds=2") == 6
    assert plan_text(database, tmp_path, 'enqueue = [{ model = "gpt", n_head = 3 }]\n' + grown, "n_head=2,4") == 1
    # The enqueued cell need not stay in the file.
    assert plan_text(database, tmp_path, grown, "n_head=2,4") == 0
    end_trials(database)
    trials = loaded(database).trials
    assert len(trials) == 11
    assert {trial.distributions["n_head"] for trial in trials if "n_head" in trial.params} == {
        CategoricalDistribution([2, 4, 3])
    }


def test_ranges_and_lists_of_a_sampler_grow(database: Database, tmp_path: Path) -> None:
    plan_text(database, tmp_path, RANDOM)
    end_trials(database, most=6)
    before = without_distributions(loaded(database).trials)[:6]
    grown = RANDOM.replace("low = 4, high = 8", "low = 2, high = 16").replace("high = 0.2", "high = 5.0")
    grown = grown.replace("{ small = [64] }", '{ none = "null", small = [64] }').replace("trials = 10", "trials = 40")
    assert plan_text(database, tmp_path, grown) == 30
    assert without_distributions(loaded(database).trials)[:6] == before
    cells = end_trials(database)
    assert len(cells) == 34
    assert max(cell["n"] for cell in cells) > 8
    assert max(cell["lr"] for cell in cells) > 0.2
    assert {cell["hidden"] for cell in cells} == {"none", "small"}
    study = loaded(database)
    for name, distribution in (
        ("n", IntDistribution(2, 16, step=2)),
        ("lr", FloatDistribution(0.1, 5.0)),
        ("hidden", CategoricalDistribution(["none", "small"])),
    ):
        assert {trial.distributions[name] for trial in study.trials} == {distribution}
    assert set(optuna.importance.get_param_importances(study, params=["n", "lr", "hidden"])) == {"n", "lr", "hidden"}


REFUSED = {
    "removed": (
        GRID,
        ("[64, 128]", "[64]"),
        "values can be added, not removed, and a trained trial has n_embd = 128; keep it, or choose another name",
    ),
    "axis gone": (GRID, ("flag = [true, false]\n", ""), "flag is not an axis"),
    "new axis": (
        GRID,
        ("[grid]", "[grid]\nbias = [1, 2]"),
        "bias is a new axis, and the trials so far have no value of it",
    ),
    "condition": (
        GRID,
        ("flag = [true, false]", "flag = { values = [true, false], when = { n_embd = 64 } }"),
        "does not ap",
    ),
    "narrowed": (
        RANDOM,
        ("low = 4, high = 8", "low = 6, high = 8"),
        "values can be added, not removed, and a trained trial has n = 4; keep it",
    ),
    "log": (RANDOM, ("high = 0.2", "high = 0.2, log = true"), "the range lr can become wider, but not change between"),
    "kind": (RANDOM, ("low = 4, high = 8, step = 2", "low = 4.0, high = 8.0"), "the range n can become wider, but not"),
    "list": (
        RANDOM,
        ("{ low = 0.1, high = 0.2 }", "[0.1, 0.2]"),
        "the axis lr cannot change between a list and a range",
    ),
    "name": (
        RANDOM,
        ("[64]", "[65]"),
        "the value 'small' of hidden was \\[64\\], is \\[65\\]: give the new value a new name",
    ),
    "training too": (
        GRID,
        ("flag = [true, false]", "flag = [true, false]\n[training]\nmax_iters = 7"),
        r"training.max_iters was 5000, is 7",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_join_changes_nothing(database: Database, tmp_path: Path, case: str) -> None:
    text, (old, new), said = REFUSED[case]
    plan_text(database, tmp_path, text)
    end_trials(database, loss=lambda cell: 1.0)
    before, trials = rows(database, "s"), loaded(database).trials
    definition = read_stored_study(database, "s")
    assert old in text
    with pytest.raises(UsageError, match=said) as raised:
        plan_text(database, tmp_path, text.replace(old, new))
    assert "\n" not in str(raised.value)
    assert "--name" in str(raised.value) or case == "name"
    assert (rows(database, "s"), loaded(database).trials) == (before, trials)
    assert read_stored_study(database, "s") == definition


@pytest.mark.parametrize(
    ("text", "more", "fewer", "said"),
    [
        ("grid = { x = [1, 2] }\nenqueue = [{ x = 3 }]", {"seeds": 2}, {}, "seeds = 1 is below the number of seeds"),
        ("sampler = 'random'\naxes = { x = { low = 1, high = 9 } }\ntrials = 3", {"settings": ("trials=5",)}, {},
         "trials = 3 is below the 5 trials that are planned"),
        ("sampler = 'random'\naxes = { x = { low = 1, high = 9 } }\ntrials = 3", {"seeds": 2},
         {"settings": ("trials=2",), "seeds": 2}, "trials = 2 with seeds = 2 is below the 6 trials that are planned"),
    ],
)  # fmt: skip
def test_fewer_than_planned_is_said(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    text: str,
    more: dict[str, Any],
    fewer: dict[str, Any],
    said: str,
) -> None:
    file = tmp_path / "few.toml"
    file.write_text(f'objective = "fake_objective:start"\n{text}\n')
    for changes, shown in ((more, False), (more, False), (fewer, True), (fewer, True)):
        caplog.clear()
        options = PlanningOptions(study=str(file), storage=f"sqlite:///{tmp_path}/few.db", out=tmp_path, **changes)
        database, _ = open_planned(options)
        database.engine.dispose()
        assert len(caplog.messages) == shown
        assert all(f"warning: {said}" in line for line in caplog.messages)


def test_what_was_never_claimed_may_go(database: Database, tmp_path: Path) -> None:
    plan_text(database, tmp_path, GRID, "seeds=1")
    end_trials(database, most=2)  # those of n_embd = 64
    narrowed = GRID.replace("[64, 128]", "[64, 32]")
    assert plan_text(database, tmp_path, narrowed, "seeds=1") == 2
    assert {row.number for row in rows(database, "s")} == {0, 1, 2, 3}
    assert {trial.params["n_embd"] for trial in loaded(database).trials} == {64, 32}
    assert {trial.distributions["n_embd"] for trial in loaded(database).trials} == {CategoricalDistribution([64, 32])}
    assert len(end_trials(database)) == 2


def test_a_study_that_is_being_trained_is_left_alone(database: Database, tmp_path: Path) -> None:
    plan_text(database, tmp_path, GRID)
    [lease] = TrialQueue(database).claim(["s"], "host/cpu-0/1/abc")
    grown = GRID.replace("128]", "128, 256]")
    with pytest.raises(
        StorageError, match=r"no worker trains it, and host/cpu-0/1/abc does; stop the workers, or wait"
    ):
        plan_text(database, tmp_path, grown)
    assert len(rows(database, "s")) == 8
    expire(database, lease)
    assert plan_text(database, tmp_path, grown) == 4


def test_a_worker_that_was_idle_meanwhile_chooses_from_what_is_stored_now(database: Database, tmp_path: Path) -> None:
    plan_text(database, tmp_path, RANDOM)
    end_trials(database, most=3)
    stored = read_stored_study(database, "s")
    assert stored is not None
    late = make_sampling(database, stored)
    assert late is not None
    plan_text(database, tmp_path, RANDOM.replace("high = 8", "high = 200").replace("low = 0.1", "low = 0.01"))
    queue = TrialQueue(database)
    for _ in range(7):
        [lease] = queue.claim(["s"], "late")
        queue.finish(late.fill(lease), "complete", 1.0)
    trials = loaded(database).trials
    assert {trial.distributions["n"] for trial in trials} == {IntDistribution(4, 200, step=2)}
    assert max(trial.params["n"] for trial in trials) > 8


DEATHS = [
    Death("search.storage.planning:_continued", "before"),
    Death("search.storage.planning:remove_trials", "after"),
    Death("search.storage.planning:rewrite_distributions", "after"),
    Death("search.storage.planning:_continued", "after"),
    Death("search.storage.optuna_tables:insert_waiting_trials", "after"),
    Death("search.study.planner:plan", "after"),
]


@pytest.mark.parametrize("death", DEATHS, ids=str)
def test_growth_is_all_or_nothing(storage_url: str, tmp_path: Path, death: Death) -> None:
    grown = GRID.replace("[64, 128]", "[32, 64]")
    with open_database(storage_url, create=True).closing() as database:
        plan_text(database, tmp_path, GRID)
        end_trials(database, most=2)
        before = without_distributions(loaded(database).trials)[:2]

    def die() -> None:
        with open_database(storage_url, create=False).closing() as database:
            death.prepare()
            plan_text(database, tmp_path, grown)

    assert in_child(die, tmp_path / "child.log") == (-signal.SIGKILL)
    with open_database(storage_url, create=False).closing() as database:
        choices = {trial.distributions["n_embd"] for trial in loaded(database).trials}
        assert choices in ({CategoricalDistribution([64, 128])}, {CategoricalDistribution([32, 64])})
        plan_text(database, tmp_path, grown)
        end_trials(database)
        trials = loaded(database).trials
        assert {trial.distributions["n_embd"] for trial in trials} == {CategoricalDistribution([32, 64])}
        assert len(trials) == 8
        assert without_distributions(trials)[:2] == before
