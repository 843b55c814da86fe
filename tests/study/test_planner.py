"""From a definition to the trials that shall exist, and what may change between two starts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, IntDistribution
from sample_study import engines_closed
from study_files import all_rows, sqlite, write_study

from search.errors import UsageError
from search.objectives.corpus import encode, load_corpus
from search.storage.connect import open_database
from search.storage.values import canonical
from search.study.corpus import builtin_corpus, corpus_difference, corpus_of_file
from search.study.definition import load_definition
from search.study.planner import Study, ensure_planned, study_plans
from search.study.space import Space
from search.study.stored import planned_study, read_stored_study

CORPUS = encode("text", "to be or not to be")


def study(file: str, *settings: str, with_baselines: bool = True, seeds: int = 1, pruner: str = "top") -> Study:
    definition = load_definition(file, settings)
    definition = definition.model_copy(update={"seeds": seeds, "pruner": definition.pruner.with_name(pruner)})
    return Study(definition, definition.name, CORPUS, with_baselines)


def test_cells_in_order() -> None:
    assert Space({"a": [2, 1], "b": ["x", "y"]}).cells() == [
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
    ]


def test_plans_of_the_builtin_study() -> None:
    grid, baselines = study_plans(study("bigram", seeds=2))
    assert (grid.study, baselines.study) == ("bigram", "bigram-baselines")
    assert (len(grid.trials), len(baselines.trials)) == (72, 4)
    # One seed of everything, quick cells first, before the second seed of anything; baselines first of their seed.
    queue = sorted([*grid.trials, *baselines.trials], key=lambda trial: trial.priority)
    assert [json.loads(trial.cell)["seed"] for trial in queue] == [1337] * 38 + [1338] * 38
    assert [json.loads(trial.cell)["model"] for trial in queue[:3]] == ["bigram", "bigram_mf", "bigram_v2"]
    sizes = [json.loads(trial.cell)["block_size"] for trial in queue[2:38]]
    assert sizes == sorted(sizes)
    assert len({trial.priority for trial in queue}) == 76
    assert len({trial.cell for trial in queue}) == 76


def test_slow_cells_go_first_where_nothing_is_pruned() -> None:
    grid, baselines = study_plans(study("bigram", seeds=2, pruner="none"))
    queue = sorted([*grid.trials, *baselines.trials], key=lambda trial: trial.priority)
    assert [json.loads(trial.cell)["model"] for trial in queue[:3]] == ["bigram", "bigram_mf", "bigram_v2"]
    sizes = [json.loads(trial.cell)["block_size"] for trial in queue[2:38]]
    assert sizes == sorted(sizes, reverse=True)
    assert [json.loads(trial.cell)["seed"] for trial in queue] == [1337] * 38 + [1338] * 38
    # The numbers of the trials are those of the grid all the same.
    assert json.loads(grid.trials[0].cell)["block_size"] == 8


def test_parameters_and_their_distributions() -> None:
    [grid] = study_plans(study("bigram", with_baselines=False, seeds=2))
    for trial in grid.trials:
        values = {name: parameter.value for name, parameter in trial.parameters.items()}
        assert values == json.loads(trial.cell)
    parameters = grid.trials[0].parameters
    assert parameters["pe_type"].distribution == CategoricalDistribution(["randn", "sinpe", "rope"])
    assert parameters["block_size"].distribution == CategoricalDistribution([8, 16, 32, 64])
    assert isinstance(parameters["seed"].distribution, IntDistribution)


def test_shape_key_is_equal_where_shapes_are(tmp_path: Path) -> None:
    file = write_study(tmp_path, '[grid]\nn_embd = [8, 16]\npe_type = ["randn", "rope"]\nlearning_rate = [0.1, 0.01]\n')
    [plan] = study_plans(study(file, seeds=2))
    keys = {(trial.shape_key, json.loads(trial.cell)["n_embd"]) for trial in plan.trials}
    assert keys == {('{"n_embd":8}', 8), ('{"n_embd":16}', 16)}


scalars = st.one_of(st.integers(), st.booleans(), st.text(), st.floats(allow_nan=False, allow_infinity=False))
cells = st.dictionaries(st.text(min_size=1), scalars, max_size=5)


@given(cells, st.randoms())
def test_canonical_text_does_not_depend_on_order(cell: dict[str, object], draw: object) -> None:
    items = list(cell.items())
    draw.shuffle(items)  # type: ignore[attr-defined]
    assert canonical(dict(items)) == canonical(cell)
    assert json.loads(canonical(cell)) == cell


@given(cells, cells)
def test_canonical_text_tells_cells_apart(one: dict[str, object], other: dict[str, object]) -> None:
    assert (canonical(one) == canonical(other)) <= (one == other)


def test_planning_again_adds_nothing(tmp_path: Path) -> None:
    file, storage = write_study(tmp_path), sqlite(tmp_path)
    with open_database(storage, create=True).closing() as database:
        assert ensure_planned(database, study(file)).added == 9
        assert ensure_planned(database, study(file)).added == 0
        assert ensure_planned(database, study(file, seeds=3)).added == 18
        assert ensure_planned(database, study(file)).added == 0
    assert [row["number"] for row in all_rows(storage) if row["study"] == "small"] == list(range(24))


def test_changed_definition_is_refused_with_what_was_and_is(tmp_path: Path) -> None:
    file, storage = write_study(tmp_path), sqlite(tmp_path)
    with open_database(storage, create=True).closing() as database:
        ensure_planned(database, study(file))
        before = all_rows(storage)
        with pytest.raises(
            UsageError,
            match=r"^the study 'small' was planned with another definition \(grid\.n_embd was \[64, 128\], is \[64\]; "
            r"training\.max_iters was 40, is 7\); choose another name with --name, or another --storage$",
        ):
            ensure_planned(database, study(file, "n_embd=64", "max_iters=7"))
        other = Study(load_definition(file), "small", encode("other", "another text"))
        with pytest.raises(UsageError, match=r"corpus_sha256 was [0-9a-f]{64}, is [0-9a-f]{64}"):
            ensure_planned(database, other)
    assert all_rows(storage) == before


def test_changed_baselines_leave_the_grid_unplanned_too(tmp_path: Path) -> None:
    file, storage = write_study(tmp_path), sqlite(tmp_path)
    with open_database(storage, create=True).closing() as database:
        ensure_planned(database, study(file))
        Path(file).write_text(Path(file).read_text().replace('model = "bigram"', 'model = "bigram_mf"'))
        with pytest.raises(UsageError, match=r"the study 'small-baselines' was planned with another definition"):
            ensure_planned(database, study(file, seeds=2))
    assert len(all_rows(storage)) == 9


def test_pruner_and_workers_may_change_between_starts(tmp_path: Path) -> None:
    file, storage = write_study(tmp_path), sqlite(tmp_path)
    with open_database(storage, create=True).closing() as database:
        ensure_planned(database, study(file))
        assert ensure_planned(database, study(file, "warmup_steps=7", "lease_s=3")).added == 0
        stored = read_stored_study(database, "small")
        assert stored is not None
        assert stored.settings.pruner.arguments["warmup_steps"] == 7
        assert stored.settings.workers.lease_s == 3


def test_baselines_can_join_later(tmp_path: Path) -> None:
    file, storage = write_study(tmp_path), sqlite(tmp_path)
    with open_database(storage, create=True).closing() as database:
        assert ensure_planned(database, study(file, with_baselines=False)).added == 8
        assert ensure_planned(database, study(file)).added == 1


def test_study_that_optuna_alone_made_is_refused(tmp_path: Path) -> None:
    import optuna

    file, storage = write_study(tmp_path), sqlite(tmp_path)
    with open_database(storage, create=True).closing() as database:
        with engines_closed():
            optuna.create_study(study_name="small", storage=optuna.storages.RDBStorage(storage))
        with pytest.raises(UsageError, match=r"lm-search did not plan the study 'small' in the database"):
            ensure_planned(database, study(file))


def test_workers_find_a_built_in_text() -> None:
    assert corpus_of_file("gpt-scaling") == "builtin:shakespeare"
    assert corpus_of_file("bigram") is None
    definition = load_definition("gpt-scaling", ["learning_rate=1e-2", "n_embd=16"])
    corpus = load_corpus(Path("builtin:shakespeare"))
    [plan] = study_plans(Study(definition, "under-another-name", corpus))
    stored = planned_study(plan)
    assert builtin_corpus(stored) == "builtin:shakespeare"
    assert corpus_difference(stored, load_corpus()) is not None
    assert builtin_corpus(dataclasses.replace(stored, corpus="tinyshakespeare")) is None
