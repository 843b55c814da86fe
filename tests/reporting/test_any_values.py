"""Losses and axes of any finite size, and texts of any kind: nothing fails, is mixed up, or grows without bound."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_studies import End, ended_study, nothing
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import String, cast, text, update

from search.reporting.escapes import csv_value, markdown_text
from search.reporting.progress import PlainLines, Snapshot, summary_line
from search.reporting.render import render
from search.reporting.report_data import read_report_data
from search.reporting.status_text import status_as_json, status_as_text
from search.statistics.inference import mean
from search.statistics.losses import Losses
from search.statistics.ranking import ranked_rows
from search.storage.database import Database
from search.storage.schema import queue_table
from search.study.formatting import describe_cell, enough_digits, value_text
from search.web.dashboard_publisher import note, publish

FORMATS = ("markdown", "csv", "json", "latex", "html")
NAMES = ["small"]


@contextmanager
def study_of(
    folder: Path, axes: Mapping[str, Any], loss: Callable[[Mapping[str, Any]], float], seeds: int = 2
) -> Iterator[Database]:
    """A study of complete trials."""
    grid = "".join(f"{axis} = {json.dumps(values)}\n" for axis, values in axes.items())
    study = f'objective = "fake_objective:start"\n[grid]\nblock_size = [8]\n{grid}'
    with ended_study(
        folder, lambda cell: End("complete", {0: 1.0, 10: loss(cell)}), seeds=seeds, study=study
    ) as database:
        yield database


def check_all_texts(database: Database) -> dict[str, str]:
    """Make everything that is shown of a study."""
    snapshot = Snapshot(database, NAMES)
    assert summary_line(snapshot, 2)
    PlainLines().show(snapshot, 2)
    assert status_as_text(database, NAMES, None)
    json.loads(status_as_json(database, NAMES, None), parse_constant=pytest.fail)
    assert note(database, NAMES)
    assert publish(database, NAMES)
    texts = {format: render(database, NAMES, format) for format in FORMATS}
    json.loads(texts["json"], parse_constant=pytest.fail)
    return texts


@pytest.mark.parametrize(
    "losses",
    [
        (1e308, -1e308, 1.7e308),
        (1e308, 1e308, 1e308),
        (5e-324, 0.0, 1e-300),
        (-1e-200, 1e200, -0.0),
        (1.0, 1.0000000000000002, 0.9999999999999999),
    ],
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_losses_of_any_size(tmp_path: Path, losses: tuple[float, ...], seeds: int) -> None:
    draw = random.Random(1)
    with study_of(tmp_path, {"x": [1, 2, 3], "y": [1, 2]}, lambda cell: draw.choice(losses), seeds) as database:
        texts = check_all_texts(database)
        assert all(len(line) < 2_000 for line in texts["markdown"].splitlines())


@pytest.mark.parametrize("axis", [[-2000, 0, 1], [-2000.0, 0.0, 1e308], [True, False], [10**30, 1], [5e-324, -1e-300]])
def test_axes_of_any_size(tmp_path: Path, axis: list[Any]) -> None:
    with study_of(tmp_path, {"x": axis}, lambda cell: 2.0) as database:
        check_all_texts(database)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
@example([1.7976931348623157e308] * 3)
def test_means_and_intervals_of_any_size(values: list[float]) -> None:
    assert min(values) <= mean(values) <= max(values) or math.isclose(mean(values), min(values), rel_tol=1e-12)
    losses = Losses.of(({"n": at % 2}, at, value) for at, value in enumerate(values))
    assert np.isfinite(losses.mean).all()
    if losses.posterior is None:
        assert len(values) < 3
        return
    noise = losses.posterior.noise
    for reach in (noise.mean_reach, noise.seed_reach):
        assert (reach >= 0).all()
        assert np.isfinite(reach).all()
    contrasts = losses.posterior.contrasts([{0: 1.0, 1: -1.0}, {0: -1.0, 1: 1.0}])
    for name, found in vars(contrasts).items():
        assert np.isfinite(found).all(), name
    assert (contrasts.joint_low <= contrasts.low).all()
    assert (contrasts.low <= contrasts.mean).all()


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_loss_of_zero_is_a_loss(tmp_path: Path, zero: float) -> None:
    with study_of(tmp_path, {"x": [0, 1, 2]}, lambda cell: cell["x"] or zero, 1) as database:
        best = Snapshot(database, NAMES).best
        assert best is not None
        assert (best.val_loss, best.cell["x"]) == (0.0, 0)
        rows = ranked_rows(database, NAMES)
        assert [row.val_loss for row in rows] == [0.0, 1.0, 2.0]
        assert rows[0].seed_range == (0.0, 0.0)
        assert " 0.00000 |" in render(database, NAMES, "markdown")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30, unique=True))
def test_different_values_have_different_texts(values: list[float]) -> None:
    digits = enough_digits(values)
    assert len({value_text(value, digits) for value in values}) == len({repr(value + 0.0) for value in values})


def test_values_that_differ_late_are_not_mixed(tmp_path: Path) -> None:
    near = [0.12345671, 0.12345672, 0.1234567, 0.5]
    with study_of(tmp_path, {"x": near}, lambda cell: cell["x"], 3) as database:
        data = read_report_data(database, NAMES, with_trials=True)
        labels = [line.label for line in data.drawn.curves(data.rows)]
        assert len(set(labels)) == len(labels) == 4
        texts = check_all_texts(database)
        for text in (*texts.values(), note(database, NAMES)):
            assert all(f"{value:.8g}" in text for value in near)


HOSTILE = ["a|b", "a\nb", "<script>alert(1)</script>", "=1+2", "@SUM(A1)", "-2+3", "+1", "[x](javascript:y)", "`x`",
           "\x1b[31mred", "[/bold]", "\\", "*x*", "&lt;", " =1", "\t=1", "%d {0}", "$x_1$ & #", "‮evil"]  # fmt: skip


def test_hostile_texts_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with study_of(tmp_path, {"x": HOSTILE}, lambda cell: HOSTILE.index(cell["x"]), 2) as database:
        texts = check_all_texts(database)
    table = [line for line in texts["markdown"].splitlines() if re.match(r"\|\s+\d+ \|", line)]
    assert len(table) == len(HOSTILE)
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert "<" not in texts["markdown"]
    assert "\x1b" not in texts["markdown"] + texts["latex"] + texts["html"] + capsys.readouterr().err
    assert texts["html"].count("<script") == 1  # the page's own
    assert "<script>alert" not in texts["html"]
    values = [row["x"] for row in csv.DictReader(io.StringIO(texts["csv"], newline=""))]
    assert [value.removeprefix("'") for value in values] == HOSTILE
    assert not any(value.strip(" ").startswith(("=", "+", "-", "@", "\t", "\r")) for value in values)


@given(st.text(max_size=40))
def test_markdown_has_no_markup_left(text: str) -> None:
    escaped = markdown_text(text)
    assert "\n" not in escaped
    # Without escaped characters nothing is left that markdown reads.
    assert not re.search(r"[`|*\[\]<>\\]", re.sub(r"\\.", "", escaped))
    assert csv_value(-2.5) == -2.5


@pytest.mark.parametrize(
    ("levels", "seeds"), [(500, 2), *(pytest.param(1_000, seeds, marks=pytest.mark.soak) for seeds in (1, 2))]
)
def test_many_levels_are_bounded(tmp_path: Path, levels: int, seeds: int) -> None:
    grid = f'objective = "fake_objective:start"\n[grid]\nx = {[at / 100 for at in range(levels)]}\n'
    with ended_study(tmp_path, nothing, seeds, grid) as database:
        with database.engine.begin() as connection:
            done = "state = 'done', outcome = 'complete', step = 10, value = number % :levels + (number % 7) * 0.01"
            connection.execute(text(f"UPDATE search_runs SET {done}"), {"levels": levels})
            connection.execute(text("UPDATE search_runs SET val_loss = value, train_loss = value"))
            connection.execute(text("UPDATE trials SET state = 'COMPLETE'"))
        began = time.process_time()  # other processes run beside this one
        texts = {format: render(database, NAMES, format) for format in FORMATS}
        seconds = time.process_time() - began
        tracemalloc.start()
        shown = note(database, NAMES)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # All pairs would be half a million comparisons of 1,000 levels in each of the texts, and take a minute.
    assert seconds < levels / 50
    assert peak < levels * 2e5
    assert len(shown) < 30_000
    assert {format: len(text) for format, text in texts.items() if len(text) > 1_000 * levels} == {}
    comparisons = json.loads(texts["json"])["verdicts"]["comparisons"]
    assert len(comparisons) == (0 if seeds == 1 else 20)
    left_out = f"{levels - 21} more comparisons are left out"
    assert (left_out in texts["markdown"]) is (left_out in texts["html"]) is (seeds > 1)
    assert f"({levels} values)" in texts["markdown"]


def test_status_of_many_failures_is_bounded(tmp_path: Path) -> None:
    grid = f'objective = "fake_objective:start"\n[grid]\nblock_size = {list(range(1, 301))}\n'
    with ended_study(tmp_path, lambda cell: End("failed", {}), seeds=1, study=grid) as database:
        alike = status_as_text(database, NAMES, None).splitlines()
        numbered = "no file /out/" + cast(queue_table.c.number, String) + "/output.log"
        for reason, shown in ((numbered, 1), (cast(queue_table.c.number, String), 50)):
            change = update(queue_table).values(reason=reason)
            database.write(lambda connection, change=change: connection.execute(change))  # type: ignore[misc]
            lines = status_as_text(database, NAMES, None).splitlines()
            page, report = (render(database, NAMES, each) for each in ("html", "markdown"))
            assert sum("attempt 1: " in line for line in lines) == shown
            assert page.count("<details><summary>small trial") == report.count("    small trial") == min(shown, 20)
            assert ("280 more; " in page) == ("280 more; " in report) == (shown > 1)
    first = "small trial 0 (block_size=1 seed=1337), attempt 1: "
    assert [line for line in alike if "attempt" in line and first not in line] == []
    assert any(
        line.startswith("    the same in 299 more trials: 1, 2, 3, ") and line.endswith(", 30, …") for line in alike
    )
    assert "  and 250 more" in lines


@pytest.mark.parametrize(("seeds", "text"), [(1, "small: 1 trial; "), (2, "small: 2 trials; ")])
def test_one_is_singular(tmp_path: Path, seeds: int, text: str) -> None:
    with study_of(tmp_path, {"x": [1]}, lambda cell: 1.0, seeds) as database:
        assert status_as_text(database, NAMES, None).startswith(text)
        assert "1 trials" not in "".join(check_all_texts(database).values())


def test_a_cell_has_its_axes_in_the_order_of_the_file(tmp_path: Path) -> None:
    with study_of(tmp_path, {"zeta": [1], "alpha": [2], "mid": [3]}, lambda cell: 1.0) as database:
        [row] = ranked_rows(database, NAMES)
        assert describe_cell(row.cell) == "block_size=8 zeta=1 alpha=2 mid=3"
        head = render(database, NAMES, "csv").splitlines()[0]
        assert head.startswith("rank,block_size,zeta,alpha,mid,")
