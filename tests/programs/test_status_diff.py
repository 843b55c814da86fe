"""`status --diff`: what differs between two trials, and where their curves part."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from finished_studies import GRID, End, completed, ended_study, failed, loss_of, record_code
from study_files import sqlite, write_study
from typer.testing import CliRunner

from search.objectives.corpus import encode
from search.status import app
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.queries import trial_summaries
from search.study.definition import load_definition
from search.study.planner import Study, ensure_planned
from search.study.trial_differences import curve_parting


def changing(cell: Mapping[str, Any]) -> End | None:
    """Curves of a cell's seeds are equal up to step 10; one cell fails, one waits."""
    if cell.get("n_embd") == 128 and cell.get("pe_type") == "rope":
        return failed(cell) if cell["block_size"] == 8 else None
    return End("complete", {0: 4.2, 10: 3.0, 20: loss_of(cell)})


def diff(folder: Path, *trials: str, rest: tuple[str, ...] = ()) -> Any:
    arguments = ["--study", "small", "--storage", sqlite(folder), "--diff", *trials, *rest]
    return CliRunner().invoke(app, arguments)


def as_json(folder: Path, *trials: str) -> Any:
    result = diff(folder, *trials, rest=("--json",))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def named(found: Any) -> dict[str, tuple[Any, Any]]:
    return {f"{each['group']}.{each['name']}": (each["first"], each["second"]) for each in found["differences"]}


def cells(database: Database) -> dict[tuple[Any, ...], str]:
    return {
        tuple(trial.cell.get(axis) for axis in ("pe_type", "n_embd", "block_size", "seed")): str(trial.number)
        for trial in trial_summaries(database, ["small"])
    }


def test_trials_of_one_study(tmp_path: Path) -> None:
    with ended_study(tmp_path, changing) as database:
        record_code(database, ["0123", "4567"])
        number = cells(database)
    seeds = sorted({key[3] for key in number})
    one, other = (number["randn", 64, 8, seed] for seed in seeds[:2])
    found = as_json(tmp_path, one, other)
    assert named(found)["parameters.seed"] == (seeds[0], seeds[1])
    assert named(found).keys() >= {"result.val_loss", "parameters.seed"}
    assert found["curves"]["equal_until"] == 10
    assert found["curves"]["parts_at"] == 20
    assert {"objective", "training", "pruner", "versions"} <= set(found["same"])
    wide = number["randn", 128, 8, seeds[0]]
    assert named(as_json(tmp_path, one, wide))["parameters.n_embd"] == (64, 128)
    text = diff(tmp_path, one, other).stdout
    assert f"trial {one} of small (A) and trial {other} of small (B):" in text
    assert "equal up to step 10, they part at step 20: A " in text
    # The same trial twice has no difference.
    same = as_json(tmp_path, one, one)
    assert same["differences"] == []
    assert "equal at all 3 common steps, up to step 20" in diff(tmp_path, one, one).stdout


def test_trials_without_results(tmp_path: Path) -> None:
    with ended_study(tmp_path, changing) as database:
        number = cells(database)
    [seed, *_] = sorted({key[3] for key in number})
    complete, bad, waiting = (number[cell] for cell in (
        ("randn", 64, 8, seed), ("rope", 128, 8, seed), ("rope", 128, 16, seed)
    ))  # fmt: skip
    found = as_json(tmp_path, complete, bad)
    assert named(found)["result.state"] == ("complete", "failed")
    assert named(found)["result.reason"] == (None, "why")
    assert found["curves"]["common"] == 0
    # Nothing is known of what they ran on, so nothing is said about it.
    assert not {"code", "versions", "machine"} & {each["group"] for each in found["differences"]}
    assert "code" not in found["same"]
    text = diff(tmp_path, bad, waiting).stdout
    assert "no step in common; the last step of A is none, of B none" in text
    assert f"trial {waiting} of small is waiting and has no record of code, versions and machine" in text


def test_trials_of_two_studies(tmp_path: Path) -> None:
    with ended_study(tmp_path, completed) as database:
        number = cells(database)
    other = GRID.replace("[grid]", '[pruner]\nname = "median"\n[grid]', 1)
    (tmp_path / "file").mkdir()
    definition = load_definition(write_study(tmp_path / "file", other))
    with open_database(sqlite(tmp_path), create=True).closing() as database:
        ensure_planned(database, Study(definition, "second", encode("text", "another text " * 50)))
    first = next(iter(number.values()))
    found = as_json(tmp_path, first, "second:0")
    assert named(found)["pruner.name"] == ("top", "median")
    assert "objective.corpus_sha256" in named(found)
    assert [each["study"] for each in found["trials"]] == ["small", "second"]
    # Both may name their study, and baselines are a study of their own.
    assert as_json(tmp_path, f"small:{first}", "second:0")["differences"] == found["differences"]
    assert as_json(tmp_path, "0", "small-baselines:0")["trials"][1]["study"] == "small-baselines"


@pytest.mark.parametrize(
    ("trials", "rest", "message"),
    [
        (("0", "99"), (), "--diff 99: small has the trials 0 to 23"),
        (("0", "x"), (), "--diff x: write the number of a trial, such as 7, or STUDY:NUMBER, such as small:7"),
        (("0", "-1"), (), "--diff"),
        (("0", ":1"), (), "--diff :1: write the number"),
        (("0", "other:1"), (), "no study 'other' in"),
        (("0", "1"), ("--follow",), "--diff goes without --follow"),
        (("0", "1"), ("--retry-failed",), "--diff goes without --retry-failed"),
        (("0",), (), "--diff"),
    ],
)
def test_wrong_use(trials: tuple[str, ...], rest: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with ended_study(tmp_path, completed):
        pass
    result = diff(tmp_path, *trials, rest=rest)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert message in result.stderr


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({}, {}, (0, None, None, None)),
        ({1: 2.0}, {2: 2.0}, (0, None, None, None)),
        ({1: 2.0, 2: 1.0}, {1: 2.0, 2: 1.0, 3: 0.5}, (2, 2, None, None)),
        ({1: 2.0, 2: 1.0}, {1: 2.5, 2: 1.0}, (2, None, 1, (2.0, 2.5))),
        ({1: 2.0, 2: math.nan}, {1: 2.0, 2: math.nan}, (2, 2, None, None)),
        ({1: math.inf, 2: math.inf}, {1: math.inf, 2: 1.0}, (2, 1, 2, (None, 1.0))),
        ({1: 2.0, 3: 1.0}, {1: 2.0, 2: 9.0, 3: 1.5}, (2, 1, 3, (1.0, 1.5))),
    ],
)
def test_where_curves_part(first: dict[int, float], second: dict[int, float], expected: tuple[Any, ...]) -> None:
    found = curve_parting(first, second)
    assert (found.common, found.equal_until, found.parts_at, found.values) == expected
