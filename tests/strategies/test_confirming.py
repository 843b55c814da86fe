"""`--confirm N`: which trials are planned when a study has ended, and that they are planned exactly once."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from finished_studies import CORPUS, GRID, End, completed, ended_study, half, loss_of, nothing
from study_files import sqlite, write_study

from search.errors import UsageError
from search.objectives.corpus import encode
from search.options import PlanningOptions
from search.planning import open_planned
from search.statistics.confirmation import read_confirmation
from search.statistics.ranking import ranked_rows
from search.storage.database import Database
from search.storage.queries import counts, study_attrs, trial_summaries
from search.storage.queue import TrialQueue
from search.storage.schema import DEFINITION
from search.strategies.confirming import plan_confirmation
from search.study.confirmation import with_choice
from search.study.confirmed_text import Confirmation
from search.study.definition import load_definition
from search.study.planner import Study, ensure_planned
from search.study.stored import read_stored_study
from search.workers.setup import open_worker

NAME = "small-confirm"
# By `loss_of` of finished_studies.
BEST: dict[str, Any] = {"block_size": 16, "n_embd": 64, "pe_type": "rope"}
SECOND = {"block_size": 8, "n_embd": 64, "pe_type": "rope"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with ended_study(tmp_path, completed, seeds=2) as made:
        yield made


def planned(database: Database) -> list[tuple[dict[str, Any], int]]:
    """Cell and seed of each confirming trial."""
    return [
        ({name: value for name, value in trial.cell.items() if name != "seed"}, trial.seed)
        for trial in trial_summaries(database, [NAME])
    ]


def expected(*cells: Mapping[str, Any], seeds: int) -> list[tuple[dict[str, Any], int]]:
    return [(dict(cell), 1000 + seed) for seed in range(seeds) for cell in cells]


def test_the_two_best_cells_get_seeds_that_the_study_cannot_have(database: Database) -> None:
    assert plan_confirmation(database, "small", None, 3) == NAME
    assert planned(database) == expected(BEST, SECOND, seeds=3)
    stored = read_stored_study(database, NAME)
    assert stored is not None
    assert stored.settings.pruner.name == "none"
    assert stored.settings.auto_seeds is None
    assert stored.definition.confirmation == Confirmation()


def test_planning_again_adds_nothing_and_more_seeds_add_those_alone(database: Database) -> None:
    for seeds in (2, 2, 3, 1):
        plan_confirmation(database, "small", None, seeds)
    assert sorted(planned(database), key=repr) == sorted(expected(BEST, SECOND, seeds=3), key=repr)


def test_planners_at_once_plan_each_trial_once(tmp_path: Path, database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda seeds: plan_confirmation(database, "small", None, seeds), [1, 2, 3, 4] * 2))
    assert done == [NAME] * 8
    assert sorted(planned(database), key=repr) == sorted(expected(BEST, SECOND, seeds=4), key=repr)


@pytest.mark.parametrize("end", [half, nothing])
def test_a_study_with_trials_left_is_not_confirmed(tmp_path: Path, end: Any) -> None:
    with ended_study(tmp_path, end) as database:
        assert plan_confirmation(database, "small", None, 3) is None
        assert planned(database) == []


def test_a_study_without_a_complete_cell_is_not_confirmed(tmp_path: Path) -> None:
    with ended_study(tmp_path, lambda cell: End("pruned", {0: 4.0})) as database:
        assert plan_confirmation(database, "small", None, 3) is None


def test_a_single_ranked_cell_is_confirmed_alone(tmp_path: Path) -> None:
    def end(cell: Mapping[str, Any]) -> End | None:
        return completed(cell) if {**BEST, "seed": cell["seed"]} == cell else End("failed", {})

    with ended_study(tmp_path, end) as database:
        plan_confirmation(database, "small", None, 2)
        assert planned(database) == expected(BEST, seeds=2)


def test_a_new_winner_is_confirmed_beside_the_old_one(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    plan_confirmation(database, "small", None, 2)
    grown = GRID.replace("n_embd = [64, 128]", "n_embd = [32, 64, 128]")
    definition = load_definition(write_study(tmp_path, grown)).model_copy(update={"seeds": 2})
    ensure_planned(database, Study(definition, "small", encode("text", CORPUS)))
    assert plan_confirmation(database, "small", None, 2) is None  # the new cells are not trained yet
    queue = TrialQueue(database)
    while leases := queue.claim(["small", "small-baselines"], "worker"):
        for lease in leases:
            queue.finish(lease, "complete", loss_of(json.loads(lease.cell)) + 2 / 41, {}, None)
    with caplog.at_level(logging.WARNING, logger="search"):
        plan_confirmation(database, "small", None, 2)
    new = {**BEST, "n_embd": 32}
    assert sorted(planned(database), key=repr) == sorted(expected(BEST, SECOND, new, seeds=2), key=repr)
    assert "that is confirmed too" in caplog.text
    attrs = study_attrs(database, NAME)
    assert attrs is not None
    assert len(attrs["choices"]) == 2


def test_a_study_of_another_kind_keeps_its_name(tmp_path: Path, database: Database) -> None:
    # An earlier version allowed the name.
    definition = load_definition(write_study(tmp_path, GRID))
    ensure_planned(database, Study(definition, NAME, encode("text", "abc" * 300), with_baselines=False))
    before = counts(database, [NAME])
    with pytest.raises(Exception, match="another definition"):
        plan_confirmation(database, "small", None, 2)
    assert counts(database, [NAME]) == before


def test_seeds_that_the_study_has_used_are_no_fresh_ones() -> None:
    [choice] = with_choice([], [BEST], 5, [5, 6, 1005, 1007], 3)
    assert list(choice.seeds) == [1006, 1008, 1009]


SAMPLED = """
objective = "fake_objective:start"
sampler = "random"
trials = 5
seeds = 2
[axes]
block_size = [8, 16]
n_embd = { low = 16, high = 64 }
[training]
max_iters = 20
eval_interval = 10
"""
REAL = """
corpus = "text.txt"
seeds = 1
[grid]
model = "bigram_v2"
block_size = 8
n_embd = 8
pe_type = ["sinpe", "rope"]
[training]
batch_size = 4
max_iters = 4
eval_interval = 2
sample_chars = 0
"""
TEXT = "".join(f"{number} green bottles, hanging on the wall;\n" for number in range(100))


def trained(folder: Path, file: str, confirm: int | None, corpus: Path | None = None) -> tuple[Database, Study]:
    """A study and its confirmation, trained in this process."""
    options = PlanningOptions(study=file, storage=sqlite(folder), out=folder / "out", corpus=corpus, confirm=confirm)
    database, study = open_planned(options)
    work(folder, file, corpus)
    if study.definition.confirm:
        plan_confirmation(database, study.name, study.corpus, study.definition.confirm)
        work(folder, file, corpus)
    return database, study


def work(folder: Path, file: str, corpus: Path | None) -> None:
    worker = open_worker(file, sqlite(folder), "cpu", out=folder / "out", corpus=corpus)
    try:
        assert worker.run()
    finally:
        worker.queue.database.engine.dispose()


def test_a_sampled_study_is_confirmed(tmp_path: Path) -> None:
    file = tmp_path / "drawn.toml"
    file.write_text(SAMPLED)
    (tmp_path / "text.txt").write_text(TEXT)
    database, _ = trained(tmp_path, str(file), 2, tmp_path / "text.txt")
    with database.closing():
        assert counts(database, ["drawn"])["complete"] == 10
        assert counts(database, ["drawn-confirm"])["complete"] == 4


def test_a_text_of_ones_own_has_a_reserved_tenth_that_only_the_confirmation_sees(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(REAL)
    (tmp_path / "text.txt").write_text(TEXT)
    database, study = trained(tmp_path, str(file), 2)
    with database.closing():
        assert study.corpus is not None
        assert len(study.corpus.tokens) == len(TEXT) - len(TEXT) // 10
        attrs = study_attrs(database, "own-confirm")
        assert attrs is not None
        assert attrs[DEFINITION]["confirmation"]["text"] == "the last 10 % of text.txt"
        assert attrs[DEFINITION]["metrics"] == [{"name": "held_out_loss", "direction": "minimize"}]
        assert counts(database, ["own", "own-confirm"])["complete"] == 2 + 4
        stored = read_stored_study(database, "own")
        assert stored is not None
        result = read_confirmation(database, stored, ranked_rows(database, ["own"]))
        assert result is not None
        for cell in result.cells:
            assert cell.value is not None
            assert cell.same_text is not None
            assert cell.value.mean != cell.same_text.mean
        assert result.text == "the last 10 % of text.txt"
    # A start without the option goes on, and so does one with it.
    for confirm in (None, 2):
        again, _ = trained(tmp_path, str(file), confirm)
        again.engine.dispose()


def test_a_study_planned_without_a_reserve_is_confirmed_on_its_validation_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(REAL)
    (tmp_path / "text.txt").write_text(TEXT)
    database, _ = trained(tmp_path, str(file), None)
    before = study_attrs(database, "own")
    database.engine.dispose()
    with caplog.at_level(logging.WARNING, logger="search"):
        database, _ = trained(tmp_path, str(file), 2)
    assert "evaluated on the validation text that the cells were selected on" in caplog.text
    with database.closing():
        after, confirming = study_attrs(database, "own"), study_attrs(database, "own-confirm")
        assert before is not None
        assert after is not None
        assert confirming is not None
        assert after[DEFINITION] == before[DEFINITION]
        assert "reserved" not in after[DEFINITION]
        assert confirming[DEFINITION]["confirmation"] == {}
        assert "metrics" not in confirming[DEFINITION]
        assert counts(database, ["own-confirm"])["complete"] == 4


SEEDLESS = "def loss(params):\n    return params['x']\n"
SUGGESTING = "def loss(trial):\n    return trial.suggest_float('x', 0, 1)\n"
TWO = "def loss(params, seed):\n    return {'error': 1.0, 'size': 2.0}\n"


@pytest.mark.parametrize(
    ("source", "head", "message"),
    [
        (SEEDLESS, "[grid]\nx = [1, 2]", r"confirm = 2: .* takes no seed, .* add a parameter seed to the function"),
        (SUGGESTING, "trials = 3", r"confirm = 2: .* suggests its parameters itself and takes no seed; remove"),
        (
            TWO,
            'metrics = ["error", "size"]\ndirections = ["minimize", "minimize"]\n[grid]\nx = [1, 2]',
            r"confirm = 2: with several objectives \(error, size\)",
        ),
    ],
    ids=["no seed", "suggests", "several objectives"],
)
def test_what_cannot_be_confirmed_is_refused_before_anything_is_planned(
    tmp_path: Path, source: str, head: str, message: str
) -> None:
    module = f"refused_{len(source)}"
    (tmp_path / f"{module}.py").write_text(source)
    file = tmp_path / "refused.toml"
    file.write_text(f'objective = "{module}:loss"\n{head}\n')
    options = PlanningOptions(study=str(file), storage=sqlite(tmp_path), out=tmp_path / "out", confirm=2)
    with pytest.raises(UsageError, match=message):
        open_planned(options)
    assert not (tmp_path / "search.db").exists()
