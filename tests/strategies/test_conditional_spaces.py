"""Samplers in spaces with conditions, values by name, excluded cells and cells that are trained first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from queue_work import end_trials, plan_text
from study_files import sqlite

from search.errors import UsageError
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.optuna_storage import SearchStorage
from search.strategies.samplers import check_sampler
from search.study.definition import load_definition
from search.study.distributions import axis_distributions
from search.study.stored import read_stored_study

TREE = """
objective = "fake_objective:start"
sampler = { name = "%s"%s }
trials = 30
first_seed = 3
exclude = [{ model = "gpt", n_embd = 64 }]
enqueue = [{ model = "rnn", cell = "lstm", n_embd = 32 }]

[axes]
model = ["gpt", "rnn"]
n_head = { low = 1, high = 4, when = { model = "gpt" } }
dropout = { low = 0.1, high = 0.5, when = { n_head = [2, 3, 4] } }
cell = { values = { gru = ["g", 1], lstm = ["l"], none = "null" }, when = { model = "rnn" } }
n_embd = [32, 64]
"""


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Database]:
    """A SQLite database."""
    with open_database(sqlite(tmp_path), create=True).closing() as database:
        yield database


def trials_of(database: Database, name: str = "s") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=SearchStorage(database)).get_trials()


SAMPLERS = [
    ("random", ""),
    ("tpe", ", n_startup_trials = 8"),
    ("tpe", ", n_startup_trials = 8, multivariate = true, group = true"),
    ("gp", ", n_startup_trials = 27"),
    ("NSGAIISampler", ", population_size = 5"),
    ("QMCSampler", ""),
]


@pytest.mark.parametrize(("sampler", "arguments"), SAMPLERS)
def test_sampler_chooses_an_axis_only_where_it_applies(
    files: Database, tmp_path: Path, sampler: str, arguments: str
) -> None:
    text = TREE % (sampler, arguments)
    assert plan_text(files, tmp_path, text) == 30
    cells = end_trials(files)
    assert len(cells) == 30
    stored = read_stored_study(files, "s")
    assert stored is not None
    space = stored.definition.space
    for cell in cells:
        assert space.fault_of({name: value for name, value in cell.items() if name != "seed"}) is None
        assert not (cell["model"] == "gpt" and cell["n_embd"] == 64)
    assert {name: cells[0][name] for name in ("model", "cell", "n_embd")} == {
        "model": "rnn",
        "cell": "lstm",
        "n_embd": 32,
    }
    assert {cell["model"] for cell in cells} == {"gpt", "rnn"}
    trials = trials_of(files)
    assert [trial.params for trial in trials] == cells
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({json.dumps(str(trial.distributions["model"])) for trial in trials}) == 1
    study = optuna.load_study(study_name="s", storage=SearchStorage(files))
    found = optuna.importance.get_param_importances(study, params=["model", "n_embd"])
    assert set(found) == {"model", "n_embd"}


def test_tpe_learns_inside_a_condition(files: Database, tmp_path: Path) -> None:
    text = TREE % ("tpe", ", n_startup_trials = 10")

    def loss(cell: Mapping[str, Any]) -> float:
        return float(abs(cell.get("dropout", 9.0) - 0.3))

    plan_text(files, tmp_path, text.replace("trials = 30", "trials = 60"))
    cells = end_trials(files, loss=loss)
    late = Counter(cell["model"] == "gpt" and cell["n_head"] > 1 for cell in cells[30:])
    assert late[True] > 2 * late[False]


def test_choice_of_a_slot_is_reproducible(tmp_path: Path) -> None:
    found = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        with open_database(sqlite(folder), create=True).closing() as database:
            plan_text(database, folder, TREE % ("tpe", ", n_startup_trials = 4"), "trials=12")
            found.append(end_trials(database))
    assert found[0] == found[1]


def test_a_sampler_that_only_chooses_excluded_cells_still_fills_every_slot(files: Database, tmp_path: Path) -> None:
    (tmp_path / "stubborn_sampler.py").write_text(
        "import optuna\n"
        "class Stubborn(optuna.samplers.RandomSampler):\n"
        "    def sample_independent(self, study, trial, name, distribution): return 7\n"
    )
    text = (
        'objective = "fake_objective:start"\nsampler = "stubborn_sampler:Stubborn"\ntrials = 5\n'
        "exclude = [{ n = 7 }]\n[axes]\nn = { low = 1, high = 9 }\n"
    )
    from search.study.user_modules import extend_sys_path

    extend_sys_path(tmp_path)
    plan_text(files, tmp_path, text)
    cells = end_trials(files)
    assert len(cells) == 5
    assert 7 not in {cell["n"] for cell in cells}


def test_narrow_rest_of_a_space_is_found_and_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = 'objective = "fake_objective:start"\nsampler = "tpe"\ntrials = 5\n'
    (tmp_path / "s.toml").write_text(
        f"{head}exclude = [{{ n = {list(range(1, 400))} }}]\n[axes]\nn = {{ low = 1, high = 400 }}\n"
    )
    study = load_definition(str(tmp_path / "s.toml"))
    distributions = axis_distributions(study.grid, study.axes)
    check_sampler(study.sampler, distributions, study.space)
    (tmp_path / "s.toml").write_text(head + "exclude = [{ n = [1, 2] }]\n[axes]\nn = { low = 1, high = 2 }\n")
    study = load_definition(str(tmp_path / "s.toml"))
    monkeypatch.setattr("search.strategies.start_points.MAX_PLACES", 50)
    with pytest.raises(UsageError, match="exclude leaves almost no cell: each of 50 random cells is excluded"):
        check_sampler(study.sampler, axis_distributions(study.grid, study.axes), study.space)


@pytest.mark.parametrize(("sampler", "says"), [("tpe", False), ("random", False), ("NSGAIISampler", True)])
def test_a_sampler_that_does_not_learn_conditional_axes_says_so(tmp_path: Path, sampler: str, says: bool) -> None:
    (tmp_path / "s.toml").write_text(TREE % (sampler, ""))
    study = load_definition(str(tmp_path / "s.toml"))
    said = check_sampler(study.sampler, axis_distributions(study.grid, study.axes), study.space)
    assert bool(said) == says
    if says:
        assert "it draws n_head, dropout, cell at random" in said[0]


def test_cells_are_enqueued_later_into_slots_that_no_worker_has(files: Database, tmp_path: Path) -> None:
    text = 'objective = "fake_objective:start"\nsampler = "random"\ntrials = 6\nseeds = 2\n%s[axes]\nn = [1, 2, 3]\n'
    plan_text(files, tmp_path, text % "")
    first, *_ = end_trials(files, most=3)
    assert plan_text(files, tmp_path, text % "enqueue = [{ n = 2 }, { n = 3 }]\n") == 0
    cells = end_trials(files)
    # The half-trained slot goes on; the cells that no slot has come next.
    assert {cell["n"] for cell in cells[1:5]} >= {2, 3} - {first["n"]}
    assert len(trials_of(files)) == len(cells) + 3 == 12
    assert plan_text(files, tmp_path, text % "enqueue = [{ n = 2 }]\n") == 0
