"""What a sampler is asked and shown, and what a study file may say about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from queue_work import end_trials
from study_files import all_rows, opened, program, sqlite, write_corpus, write_study

from search.errors import UsageError
from search.options import PlanningOptions
from search.planning import open_planned
from search.storage.database import Database
from search.storage.slot_history import SlotTrial
from search.strategies.samplers import ask, make_sampler
from search.strategies.slot_sampling import merged, observed_trials
from search.study.definition import load_definition
from search.study.distributions import axis_distributions
from search.study.planner import edge_cells
from search.study.search_space import SamplerSettings
from search.study.stored import read_stored_study
from search.study.user_modules import extend_sys_path

TPE = """
objective = "fake_objective:start"
first_seed = 3
sampler = "tpe"
trials = 12

[axes]
pe_type = ["randn", "rope"]
learning_rate = { low = 1e-4, high = 1e-1, log = true }
n_embd = { low = 8, high = 64, step = 8 }

[training]
max_iters = 4
eval_interval = 2

[pruner]
name = "none"
"""
SPACE = {
    "pe_type": CategoricalDistribution(["randn", "rope"]),
    "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "n_embd": IntDistribution(8, 64, step=8),
}


def test_axes_of_all_kinds(tmp_path: Path) -> None:
    study = load_definition(write_study(tmp_path, TPE))
    assert axis_distributions(study.grid, study.axes) == SPACE
    cells = edge_cells(study)
    assert {cell["n_embd"] for cell in cells} == {8, 64}
    assert {cell["learning_rate"] for cell in cells} == {1e-4, 1e-1}
    assert {cell["pe_type"] for cell in cells} == {"randn", "rope"}


def test_the_grid_table_takes_ranges_too(tmp_path: Path) -> None:
    assert load_definition(write_study(tmp_path, TPE.replace("[axes]", "[grid]"))) == load_definition(
        write_study(tmp_path, TPE)
    )


def test_set_narrows_a_list_and_replaces_a_range(tmp_path: Path) -> None:
    study = load_definition(write_study(tmp_path, TPE), ["pe_type=rope", "n_embd=16,32", "trials=5"])
    assert (study.grid, set(study.axes), study.trials) == (
        {"pe_type": ["rope"], "n_embd": [16, 32]},
        {"learning_rate"},
        5,
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("low = 8, high = 64", "low = 64, high = 8", "axes.n_embd: a range from low = 64 to high = 8 is empty"),
        (
            "low = 1e-4,",
            "low = 0,",
            "axes.learning_rate: a range with log = true cannot start at low = 0; set low above 0",
        ),
        ("log = true", "log = true, step = 0.1", "takes either log = true or step = 0.1; remove one"),
        ("step = 8", "step = 0.5", "integers takes an integer step, not step = 0.5"),
        (
            "step = 8",
            "stop = 8",
            "unknown key 'axes.n_embd.stop' .did you mean 'step'..; choices: low, high, log, step",
        ),
        ("high = 64, ", "", "axes.n_embd.high is missing"),
        ("trials = 12", "", "sampler = 'tpe' needs trials = N"),
        ("trials = 12", "trials = 0", "trials = 0: it should be greater than or equal to 1"),
        ('sampler = "tpe"\ntrials = 12', "", "the axis learning_rate is a range, and the grid needs lists"),
        ("[axes]", "[grid]\npe_type = [1]\n[axes]", "the axis pe_type is in .grid. and in .axes."),
    ],
)
def test_faults_of_a_study_file(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in TPE
    with pytest.raises(UsageError, match=said):
        load_definition(write_study(tmp_path, TPE.replace(old, new)))


@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        ({"name": "tp"}, "sampler = 'tp': choices are grid, random, tpe, gp, .*CmaEsSampler"),
        ({"name": "tpe", "n_startup": 3}, "sampler = 'tpe': TPESampler got an unexpected keyword argument 'n_startup'"),
        ({"name": "tpe", "seed": 3}, "sampler.seed = 3: write first_seed = N"),
        ({"name": "GridSampler"}, "sampler = 'GridSampler': choices are grid"),
    ],
)
def test_a_sampler_that_cannot_be_made(sampler: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_sampler(SamplerSettings.model_validate(sampler), 0)


def test_a_persons_own_sampler(tmp_path: Path) -> None:
    (tmp_path / "own_samplers_here.py").write_text(
        "from optuna.samplers import RandomSampler\n\n\nclass Mine(RandomSampler):\n"
        "    def __init__(self, seed, share=0.5):\n"
        "        super().__init__(seed)\n"
        "        self.given = (seed, share)\n\n\nclass Other:\n    pass\n",
        encoding="utf-8",
    )
    extend_sys_path(tmp_path)
    made: Any = make_sampler(SamplerSettings.model_validate({"name": "own_samplers_here:Mine", "share": 0.1}), 3, 4)
    assert made.given == (3_000_013, 0.1)
    with pytest.raises(UsageError, match="is not a sampler; derive it from optuna"):
        make_sampler(SamplerSettings(name="own_samplers_here:Other"), 0)


@pytest.mark.parametrize("name", ["random", "tpe", "gp", "QMCSampler", "NSGAIISampler"])
def test_the_same_slot_of_the_same_study_gets_the_same_cell(name: str) -> None:
    settings = SamplerSettings(name=name)
    known = [complete(number, 2.0 + number % 7) for number in range(14)]

    def cell(slot: int) -> dict[str, Any]:
        return dict(ask(make_sampler(settings, 1337, slot), SPACE, known, {}).values)

    assert cell(14) == cell(14)
    if name not in ("QMCSampler", "gp"):  # one sequence, kept on the study; and the top of a surface is one point
        assert cell(14) != cell(15)
    assert set(cell(14)) == set(SPACE)


def complete(number: int, value: float) -> FrozenTrial:
    params = {"pe_type": "rope", "learning_rate": 1e-4 * 1.5**number, "n_embd": 8 + 8 * (number % 8)}
    return create_trial(params=params, distributions=SPACE, value=value)


def test_a_quasi_random_sequence_goes_on() -> None:
    settings = SamplerSettings(name="QMCSampler")
    space: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1)}
    notes: dict[str, Any] = {}
    seen: list[float] = []
    for slot in range(3):
        known = [create_trial(params={"x": x}, distributions=space, value=1.0) for x in [0.5, *seen]]
        answer = ask(make_sampler(settings, 1, slot), space, known, notes)
        notes = {**notes, **answer.study_notes}
        seen.append(answer.values["x"])
    assert len(set(seen)) == 3


def slot_trial(slot: int, state: str, value: float | None = None, curve: dict[int, float] | None = None) -> SlotTrial:
    seed = IntDistribution(3, 3)
    optuna_state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(state, TrialState.RUNNING)
    trial = create_trial(
        state=optuna_state,
        params={"pe_type": "rope", "learning_rate": 0.01, "n_embd": 8, "seed": 3},
        distributions={**SPACE, "seed": seed},
        value=value,
        intermediate_values=curve,
    )
    return SlotTrial(slot, state, trial)


def test_a_sampler_sees_the_mean_over_the_seeds() -> None:
    shown = merged([slot_trial(0, "complete", 2.0), slot_trial(0, "complete", 3.0)])
    assert (shown.state, shown.value) == (TrialState.COMPLETE, 2.5)
    assert set(shown.params) == set(SPACE), "the seed is none of its business"


def test_a_cell_is_as_infeasible_as_its_worst_seed() -> None:
    """As in a report, which asks whether all its complete trials keep their constraints."""
    seeds = [slot_trial(0, "complete", 2.0), slot_trial(0, "complete", 3.0), slot_trial(0, "pruned")]
    for each, memory, size in zip(seeds, (-1.0, 0.5, 9.0), (-2.0, -3.0, 9.0), strict=True):
        each.trial.set_constraint("memory", memory)
        each.trial.set_constraint("size", size)
    assert merged(seeds[:2]).constraints == {"memory": 0.5, "size": -2.0}
    assert merged(seeds).constraints == {"memory": 0.5, "size": -2.0}
    assert merged(seeds[2:]).constraints == {"memory": 9.0, "size": 9.0}


def test_a_sampler_sees_a_cell_as_running_until_its_last_seed_has_ended() -> None:
    shown = merged([slot_trial(0, "complete", 2.0), slot_trial(0, "waiting")])
    assert (shown.state, shown.params["learning_rate"]) == (TrialState.RUNNING, 0.01)


def test_a_sampler_learns_from_pruned_and_diverged_cells() -> None:
    pruned = [slot_trial(0, "complete", 2.0, {0: 4.0, 2: 3.0, 4: 2.0}), slot_trial(0, "pruned", None, {0: 4.0, 2: 3.5})]
    shown = [merged(pruned), merged([slot_trial(1, "diverged")]), merged([slot_trial(2, "failed")])]
    assert [each.state for each in shown] == [TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL]
    assert shown[0].intermediate_values == {0: 4.0, 2: 3.25}
    assert shown[1].intermediate_values == {}


def run(folder: Path, text: str, *arguments: str, name: str = "small") -> str:
    options = [
        "--study",
        write_study(folder, text, name),
        "--corpus",
        write_corpus(folder),
        "--storage",
        sqlite(folder),
    ]
    done = program("run", *options, "--workers", "1", "--quiet", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_worker_chooses_the_same_cells_again(tmp_path: Path) -> None:
    cells = []
    for name in ("one", "other"):
        (folder := tmp_path / name).mkdir()
        run(folder, TPE)
        cells.append([row["cell"] for row in all_rows(sqlite(folder))])
    assert cells[0] == cells[1]
    assert len({json.dumps(cell) for cell in cells[0]}) == 12


def test_more_trials_and_more_seeds_add_only_what_is_missing(tmp_path: Path) -> None:
    run(tmp_path, TPE)
    before = all_rows(sqlite(tmp_path))
    run(tmp_path, TPE, "--set", "trials=14", "--seeds", "2")
    after = all_rows(sqlite(tmp_path))
    assert after[: len(before)] == before
    assert len(after) == 14 * 2
    cells: dict[int, list[dict[str, Any]]] = {}
    for row in after:
        cells.setdefault(row["cell"]["@slot"], []).append(row["cell"])
    for first, second in cells.values():
        assert {**first, "seed": 4, "@repetition": 1} == second


def test_a_value_of_a_range_with_a_step_is_one_value(tmp_path: Path) -> None:
    axis = "{ low = 0.7, high = 1.3, step = 0.1 }"
    text = TPE.replace("trials = 12", "trials = 30")
    run(tmp_path, text.replace("{ low = 1e-4, high = 1e-1, log = true }", axis))
    chosen = {row["cell"]["learning_rate"] for row in all_rows(sqlite(tmp_path))}
    assert chosen <= {0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3}
    assert len(chosen) > 2


def test_a_cell_that_is_chosen_again_gets_another_seed(tmp_path: Path) -> None:
    text = TPE.replace("learning_rate = { low = 1e-4, high = 1e-1, log = true }\n", "")
    run(tmp_path, text.replace("n_embd = { low = 8, high = 64, step = 8 }", ""))
    trials = [(row["cell"]["pe_type"], row["cell"]["seed"]) for row in all_rows(sqlite(tmp_path))]
    assert len(set(trials)) == 12
    assert max(seed for _, seed in trials) > 3


SOURCE = """
objective = "fake_objective:start"
first_seed = 3

[grid]
pe_type = ["randn", "rope", "sinpe"]
n_embd = [8, 16]

[training]
learning_rate = 1e-2
max_iters = 4
eval_interval = 2

[pruner]
name = "none"
"""


def test_warm_start(tmp_path: Path) -> None:
    run(tmp_path, SOURCE, name="source")
    run(tmp_path, TPE, "--from", "source")
    with opened(sqlite(tmp_path)).closing() as database:
        stored = read_stored_study(database, "small")
    assert stored is not None
    assert stored.warm_start is not None
    assert stored.warm_start.study == "source"
    # sinpe is no choice here; the learning rate is that of the source's training.
    cells = [each.cell for each in stored.warm_start.observations]
    assert {(cell["pe_type"], cell["learning_rate"], cell["n_embd"]) for cell in cells} == {
        (pe_type, 0.01, n_embd) for pe_type in ("randn", "rope") for n_embd in (8, 16)
    }
    assert len([row for row in all_rows(sqlite(tmp_path)) if row["study"] == "small"]) == 12
    report = program("report", "--study", "small", "--storage", sqlite(tmp_path), cwd=tmp_path)
    best = min(row["value"] for row in all_rows(sqlite(tmp_path)) if row["study"] == "source")
    assert f"best of source {best:.5f}" in report.stdout
    assert "learning_rate: 0.0001 to 0.1, log" in report.stdout


def test_a_warm_start_without_a_database_makes_none(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be " * 50)
    options = ["--corpus", str(tmp_path / "text.txt"), "--storage", sqlite(tmp_path), "--quiet"]
    done = program("run", "--study", write_study(tmp_path, TPE), *options, "--from", "source", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("*.db"))


def test_faults_of_a_warm_start(tmp_path: Path) -> None:
    run(tmp_path, SOURCE, name="source")
    options = ["--corpus", str(tmp_path / "text.txt"), "--storage", sqlite(tmp_path), "--quiet"]
    other = TPE.replace("max_iters = 4", "max_iters = 6")
    for text, source, said in (
        (TPE, "sauce", "--from sauce: no such study in this database; existing studies: source"),
        (other, "source", "--from source: its results cannot be compared: training.max_iters is 4 there and 6 here"),
        (
            TPE.replace('"rope"', '"sinpe"').replace("low = 8", "low = 24"),
            "source",
            "complete cells is inside the search space of small",
        ),
        (SOURCE.replace("8, 16", "8, 24"), "source", "trains a grid, which cannot use another study's results"),
    ):
        done = program("run", "--study", write_study(tmp_path, text), *options, "--from", source, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert {row["study"] for row in all_rows(sqlite(tmp_path))} == {"source"}


def planned(folder: Path, text: str, name: str = "small", **given: Any) -> Database:
    """The database after the planning of a study file."""
    file, corpus = write_study(folder, text, name), Path(write_corpus(folder))
    database, _ = open_planned(
        PlanningOptions(study=file, corpus=corpus, storage=sqlite(folder), out=folder / "out", **given)
    )
    return database


def test_a_warm_start_joins_a_study_that_has_grown(tmp_path: Path) -> None:
    """The cell that was enqueued is a part of its definition, and not of the one that the file gives."""
    with planned(tmp_path, SOURCE, "source").closing() as database:
        end_trials(database, "source")
    planned(tmp_path, TPE, enqueue=("pe_type=rope,learning_rate=0.02,n_embd=8",)).engine.dispose()
    with planned(tmp_path, TPE, warm_start="source").closing() as database:
        stored = read_stored_study(database, "small")
    assert stored is not None
    assert stored.warm_start is not None
    assert len(stored.definition.enqueue) == 1


@pytest.mark.parametrize(
    ("old", "new", "left"),
    [
        ('["randn", "rope"]', '["rope"]', 2),
        ("low = 8,", "low = 16,", 2),
        ("learning_rate = { low = 1e-4, high = 1e-1, log = true }\n", "", 0),
    ],
)
def test_a_warm_start_outside_a_changed_search_space_fails_no_trial(
    tmp_path: Path, old: str, new: str, left: int
) -> None:
    with planned(tmp_path, SOURCE, "source").closing() as database:
        end_trials(database, "source")
    planned(tmp_path, TPE, warm_start="source").engine.dispose()
    assert old in TPE
    with planned(tmp_path, TPE.replace(old, new)).closing() as database:
        assert len(end_trials(database, "small", most=2)) == 2
        stored = read_stored_study(database, "small")
    assert stored is not None
    assert stored.warm_start is not None
    given, definition = stored.warm_start.observations, stored.definition
    distributions = axis_distributions(definition.grid, definition.axes)
    assert (len(given), len(observed_trials(given, distributions, definition.space))) == (4, left)
