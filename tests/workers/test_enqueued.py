"""`run --enqueue` and `enqueue`: cells to train first, in grids, with samplers, and for objectives that suggest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from study_files import all_rows, opened

from search.errors import UsageError
from search.options import PlanningOptions
from search.planning import open_planned
from search.storage.errors import StorageError
from search.storage.left_out import STUDY_STOPPED, leave_out
from search.storage.optuna_storage import SearchStorage
from search.storage.queries import study_uids
from search.storage.queue import TrialQueue
from search.storage.schema import NOT_RUN
from search.storage.spending import Spent, count_spending
from search.study.definition import load_definition
from search.workers.setup import open_worker

OBJECTIVES = """
def suggests(trial):
    kind = trial.suggest_categorical("kind", ["a", "b"])
    x = trial.suggest_float("x", 0, 1)
    if x == 0.25 and trial.attempt == 1:
        raise ValueError("once")
    return x + (trial.suggest_int("n", 1, 9) if kind == "b" else 0)

def returns(params):
    return params["x"]
"""
RANGES = "sampler = 'random'\ntrials = 3\n[axes]\nx = { low = 0.0, high = 1.0 }\nk = { values = ['1.0', '2.0'] }"
GRID = "[grid]\nx = [1, 2]\nh = { values = { none = 'null', big = [4, 4] } }"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a study file, and return what plans it."""
    module = f"enqueued_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(OBJECTIVES)
    monkeypatch.syspath_prepend(str(tmp_path))

    def plan(storage: str, kind: str, text: str, *cells: Any) -> PlanningOptions:
        file = tmp_path / "it.toml"
        file.write_text(f'objective = "{module}:{kind}"\n{text}\n')
        chosen = PlanningOptions(study=str(file), storage=storage, out=tmp_path / "out", enqueue=cells)
        database, _ = open_planned(chosen)
        database.engine.dispose()
        return chosen

    return plan


def work(chosen: PlanningOptions) -> None:
    worker = open_worker(str(chosen.study), chosen.storage, "cpu", out=chosen.out)
    try:
        assert worker.run()
    finally:
        worker.queue.database.engine.dispose()


def trials(storage: str) -> list[Any]:
    with opened(storage).closing() as database:
        backend = SearchStorage(database)
        return backend.get_all_trials(backend.get_study_id_from_name("it"))


def test_an_objective_that_suggests_gets_them_first(made: Any, storage_url: str) -> None:
    """As with Optuna's `enqueue_trial`: what a cell does not name is chosen, and a retry has it again."""
    text = "trials = 4\nsampler = 'random'\nenqueue = [{ x = 0.5, kind = 'b' }]"
    chosen = made(storage_url, "suggests", text, "x=0.25", {"kind": "a", "x": 0.75})
    made(storage_url, "suggests", text, "x=0.25")  # each cell once, also after another start
    work(chosen)
    found = trials(storage_url)
    assert [trial.params["x"] for trial in found[:3]] == [0.5, 0.25, 0.75]
    assert found[0].params["kind"] == "b"
    assert "n" in found[0].params
    assert [trial.state for trial in found].count(TrialState.FAIL) == 1
    assert found[3].params["x"] not in (0.5, 0.25, 0.75)
    with opened(storage_url).closing() as database:
        assert TrialQueue(database).retry_failed(["it"]) == 1
    made(storage_url, "suggests", text, "x=0.25")
    work(chosen)
    assert (trials(storage_url)[1].params["x"], len(trials(storage_url))) == (0.25, 4)
    with pytest.raises(StorageError, match=r"\{'x': 0\.1\} cannot be enqueued: .*; raise trials = N"):
        made(storage_url, "suggests", text, "x=0.1")
    chosen = made(storage_url, "suggests", text.replace("4", "5"), "x=0.1,lr=3")
    work(chosen)
    assert trials(storage_url)[4].params["x"] == 0.1


def test_a_name_that_the_objective_does_not_suggest(
    made: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work(made(f"sqlite:///{tmp_path}/search.db", "suggests", "trials = 1", "x=0.5,kind=a,king=a"))
    assert "trial 0: king was enqueued, but the objective did not suggest it; it suggests kind, x" in caplog.text


def test_in_a_grid_and_with_a_sampler(made: Any, tmp_path: Path) -> None:
    grid, sampled = (f"sqlite:///{tmp_path}/{name}.db" for name in ("grid", "sampled"))
    made(grid, "returns", GRID, "x=3,h=big", {"x": 1, "h": None})
    made(grid, "returns", GRID, "x=4,h='none'")
    cells = [row["cell"] for row in sorted(all_rows(grid), key=lambda row: row["priority"])]
    assert [(cell["x"], cell["h"]) for cell in cells if (cell["x"], cell["h"]) != (2, "none")][:2] == [
        (3, "big"),
        (1, "none"),
    ]
    assert len(cells) == 6
    made(sampled, "returns", RANGES, 'x=0.5,k="2.0"', "k=1.0,x=1e-3")
    cells = [row["cell"] for row in all_rows(sampled)]
    assert [(cell.get("x"), cell.get("k")) for cell in cells] == [(0.5, "2.0"), (0.001, "1.0"), (None, None)]


KINDS = [
    ("suggests", "trials = %d\nsampler = 'random'", "x=0.5,kind=a", "x=0.75,kind=a"),
    ("returns", RANGES.replace("trials = 3", "trials = %d"), "x=0.5,k=1.0", "x=0.75,k=1.0"),
]


def end_of(storage: str) -> list[tuple[str, Any]]:
    """How far each trial has got, and where its x is."""
    states = [row["outcome"] or row["state"] for row in all_rows(storage)]
    return list(zip(states, [trial.params.get("x") for trial in trials(storage)], strict=True))


@pytest.mark.parametrize(("kind", "text", "cell", "other"), KINDS, ids=["suggests", "returns"])
def test_in_trials_over_the_budget(made: Any, storage_url: str, kind: str, text: str, cell: str, other: str) -> None:
    """They wait for a larger budget with it."""
    chosen = made(storage_url, kind, text % 2)
    with opened(storage_url).closing() as database:
        uid = study_uids(database, ["it"])["it"]
        count_spending(database, uid, "another", Spent(4000), busy_s=None)

    def start(budget: str, *cells: str) -> list[str]:
        planned, _ = open_planned(replace(chosen, budget=budget, enqueue=cells))
        planned.engine.dispose()
        work(chosen)
        return [state for state, _ in end_of(storage_url)]

    assert start("1h") == [NOT_RUN, NOT_RUN]
    assert start("1h", cell) == [NOT_RUN, NOT_RUN]
    assert start("2h", other) == ["complete", "complete"]
    assert [x for _, x in end_of(storage_url)] == [0.5, 0.75]


@pytest.mark.parametrize(("kind", "text", "cell", "other"), KINDS, ids=["suggests", "returns"])
def test_in_trials_that_the_objective_stopped_only_if_no_other_is_left(
    made: Any, storage_url: str, kind: str, text: str, cell: str, other: str
) -> None:
    made(storage_url, kind, text % 1)
    with opened(storage_url).closing() as database:
        uid = study_uids(database, ["it"])["it"]
        database.write(lambda connection: leave_out(connection, [uid], STUDY_STOPPED))
        made(storage_url, kind, text % 2, cell)
        chosen = made(storage_url, kind, text % 2, other)
        work(chosen)
        assert [state for state, _ in end_of(storage_url)] == [NOT_RUN, "complete"]
        assert TrialQueue(database).resume_stopped(["it"]) == 1
        work(chosen)
    assert end_of(storage_url) == [("complete", 0.75), ("complete", 0.5)]


@pytest.mark.parametrize(
    ("text", "cell", "said"),
    [
        (GRID, "x", r"--enqueue x: write AXIS=VALUE,AXIS=VALUE, each axis once, such as"),
        (GRID, "x=1,x=2,h=none", r"--enqueue x=1,x=2,h=none: write AXIS=VALUE"),
        (GRID, "x=1", r"--enqueue: enqueue\.0 = .*: h is missing"),
        (GRID, "x=1,h=none,y=2", r"y is not an axis"),
        (GRID, "x=1,h=small", r"h = 'small' is not one of its values: none, big"),
        (RANGES, "x=2,k=1.0", r"x = 2 is outside its range, 0\.0 to 1\.0"),
        (RANGES, "x=1o,k=1.0", r"'?1o'? is neither a number nor a plain text"),
        (RANGES, 7, r"write a dictionary with a value for each axis"),
        ("trials = 1", "x=1", None),
        ("trials = 1\nenqueue = [{ x = 1 }, { x = 2 }]", "x=3", r"enqueue has 2 cells, and trials = 1; raise trials"),
        ("trials = 1\nexclude = [{ x = 1 }]", "x=3", r"exclude needs axes; .* raises optuna\.TrialPruned"),
    ],
)
def test_wrong_cells(tmp_path: Path, text: str, cell: Any, said: str | None) -> None:
    file = tmp_path / "it.toml"
    file.write_text(f'objective = "own:it"\n{text}\n')
    if said is None:
        assert load_definition(str(file), enqueue=[cell]).fixed == [{"x": 1}]
    else:
        with pytest.raises(UsageError, match=said):
            load_definition(str(file), enqueue=[cell])
