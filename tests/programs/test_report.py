"""The report in all its formats, of studies that are finished, half-run, empty, pruned, failed, or have one seed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finished_studies import GRID, completed, ended_study, failed, half, mixed, nothing, pruned, record_code
from study_files import sqlite, write_study
from typer.testing import CliRunner

from search.planning import warn_of_other_code
from search.report import app
from search.reporting.render import FORMATS, render
from search.storage.database import Database
from search.study.definition import load_definition
from search.study.planner import Study
from search.workers.provenance import code_digest

NAMES = ["small", "small-baselines"]
# How the trials end, the number of seeds, and the sentences that every report must contain.
STATES: dict[str, tuple[Callable[..., Any], int, list[str]]] = {
    "finished": (completed, 3, []),
    "one seed": (completed, 1, ["Every cell has one seed"]),
    "half-run": (half, 3, ["15 of 27 trials have not ended yet"]),
    "nothing run": (nothing, 3, ["None of the 27 trials has ended yet"]),
    "all pruned": (pruned, 3, ["No trial was trained to its end", "27 of 27 trials were pruned"]),
    "all failed": (failed, 3, ["No trial was trained to its end", "27 of 27 trials failed with an error"]),
    "mixed": (mixed, 3, ["12 of 27 trials were pruned", "3 of 27 trials failed with an error"]),
}
ON_PAGE = {
    "Every cell has one seed": "Each cell has one seed, so no difference can be separated from chance.",
    "15 of 27 trials have not ended yet": "15 trials have not ended yet",
    "12 of 27 trials were pruned": "12 trials were pruned, in 4 cells",
}


def reported(database: Database, format: str, top: int | None = None) -> str:
    return render(database, NAMES, format, top)


@pytest.mark.parametrize("state", STATES)
def test_every_format_says_what_is_missing(state: str, tmp_path: Path) -> None:
    end, seeds, sentences = STATES[state]
    with ended_study(tmp_path, end, seeds) as database:
        texts = {format: reported(database, format) for format in FORMATS}
    for format in ("markdown", "json", "latex"):
        for sentence in sentences:
            assert sentence in texts[format], format
    # The page says it with what it means for the verdicts.
    for sentence in sentences:
        assert sentence in texts["html"] or ON_PAGE.get(sentence, sentence) in texts["html"], sentence
    read = json.loads(texts["json"])
    assert len(read["missing"]) == len(sentences)
    assert len(read["rows"]) == len(list(csv.DictReader(io.StringIO(texts["csv"])))) == 9
    assert ('id="notes"' in texts["html"]) == bool(sentences)


@pytest.mark.parametrize(
    ("target", "end", "sentence"),
    [
        (2.1, completed, "The target 2.1 is reached: the lowest loss of a trial is 2.01128."),
        (1.5, completed, "The target 1.5 is not reached: the lowest loss of a trial is 2.01128."),
        (1.5, pruned, "The target 1.5 is not reached: no trial is complete."),
    ],
)
def test_notes(target: float, end: Callable[..., Any], sentence: str, tmp_path: Path) -> None:
    left_out = "they are of trials with max_iters 5000 (here 40)"
    with ended_study(tmp_path, end, target=target, published_left_out=left_out) as database:
        assert len(json.loads(reported(database, "json"))["notes"]) == 2
        record_code(database, ["0123", "4567", "0123"])
        texts = {format: reported(database, format) for format in ("markdown", "json", "html")}
    for format, text in texts.items():
        assert sentence in text, format
        assert f"The published losses are left out: {left_out}." in text
        assert "The trials were made by 2 versions of the code (9 by 4567, 18 by 0123)" in text
    assert len(json.loads(texts["json"])["notes"]) == 3


def test_no_notes_without_a_reason(tmp_path: Path) -> None:
    with ended_study(tmp_path, completed) as database:
        record_code(database, ["0123"])
        assert json.loads(reported(database, "json"))["notes"] == []
        assert "<strong>Notes</strong>" not in reported(database, "html")


def test_a_run_warns_of_trials_that_other_code_has_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = code_digest(["fake_objective"])
    study = Study(load_definition(write_study(tmp_path, GRID)), "small", None)
    for name, end, codes, warned in (
        ("same", completed, [now], ""),
        ("none", completed, [], ""),
        ("other", completed, ["0123", now, "4567"], "18 finished trials were made by other code of the objective fake"),
        ("failed", failed, ["0123"], ""),
    ):
        (tmp_path / name).mkdir()
        with ended_study(tmp_path / name, end) as database:
            record_code(database, codes)
            caplog.clear()
            warn_of_other_code(database, study)
        assert (warned in caplog.text) if warned else caplog.text == "", name
        assert len(caplog.records) == bool(warned)


@pytest.mark.parametrize("format", FORMATS)
def test_study_without_trials(format: str, tmp_path: Path) -> None:
    with ended_study(tmp_path, nothing) as database:
        with database.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM search_runs")
        text = reported(database, format)
    if format == "csv":
        assert list(csv.DictReader(io.StringIO(text))) == []
    else:
        assert "This study has no trials." in text


@pytest.mark.parametrize("format", FORMATS)
def test_top(format: str, tmp_path: Path) -> None:
    with ended_study(tmp_path, completed) as database:
        whole, short = reported(database, format), reported(database, format, 2)
    if format == "csv":
        read = [[row["val_loss"] for row in csv.DictReader(io.StringIO(text))] for text in (whole, short)]
        assert read[1] == read[0][:2]
    elif format == "json":
        assert len(json.loads(short)["rows"]) == 2
    else:
        assert "7 more cells" in short
        assert "more cells" not in whole


def test_intervals_tokens_and_bigram_baseline(tmp_path: Path) -> None:
    with ended_study(tmp_path, completed) as database:
        read = json.loads(reported(database, "json"))
        table = reported(database, "markdown")
    best = read["rows"][0]
    assert best["cell"] == {"block_size": 16, "n_embd": 64, "pe_type": "rope"}
    # Losses x, x + 0.01, x + 0.02 in each of 9 cells: their standard deviation is 0.01, with 18 degrees of freedom.
    assert best["interval"] == pytest.approx(2.1009 * 0.01 / 3**0.5, rel=1e-4)
    assert best["prediction"] == pytest.approx(2.1009 * 0.01 * (1 + 1 / 3) ** 0.5, rel=1e-4)
    assert best["seed_range"][1] - best["seed_range"][0] == pytest.approx(0.02)
    assert (best["tokens"], best["published"], best["published_agrees"]) == (640, 2.0, True)
    assert 1 < read["bigram_baseline"] < 3
    assert f"- bigram baseline: {read['bigram_baseline']:.5f}" in table
    assert "agrees" in table


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    with ended_study(tmp_path, completed, seeds=1) as database:
        rows = json.loads(reported(database, "json"))["rows"]
    assert {row["interval"] for row in rows} == {None}
    assert {row["published_agrees"] for row in rows} == {None}


def test_pruned_cells_have_no_interval(tmp_path: Path) -> None:
    with ended_study(tmp_path, pruned) as database:
        rows = json.loads(reported(database, "json"))["rows"]
    assert {(row["interval"], row["seed_range"], row["rank"]) for row in rows} == {(None, None, None)}


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        (["--output", "a.html"], "<!DOCTYPE html>"),
        (["--output", "a.tex"], "% needs"),
        (["--output", "a.CSV"], "rank,"),
        (["--output", "a.json"], "{"),
        (["--output", "a.txt"], "# small"),
        (["--output", "a.html", "--format", "markdown"], "# small"),
    ],
)
def test_ending_of_the_output_names_the_format(
    arguments: list[str], begins: str, tmp_path: Path, work_folder: Path
) -> None:
    with ended_study(tmp_path, completed, seeds=1):
        result = CliRunner().invoke(app, ["--study", "small", "--storage", sqlite(tmp_path), *arguments])
    assert result.exit_code == 0, result.output
    assert (work_folder / arguments[1]).read_text(encoding="utf-8").startswith(begins)


def test_bigram_baseline_is_planned_for_the_baselines_too(tmp_path: Path) -> None:
    with ended_study(tmp_path, nothing, study=GRID) as database:
        losses = {json.loads(render(database, [name], "json"))["bigram_baseline"] for name in NAMES}
    assert len(losses) == 1


def test_verdicts_are_in_markdown_and_json(tmp_path: Path) -> None:
    with ended_study(tmp_path, completed, 3) as database:
        text, found = reported(database, "markdown"), json.loads(reported(database, "json"))["verdicts"]
    assert "## Verdicts" in text
    assert text.index("val_loss ranks") < text.index("## Verdicts")
    for [each] in (answer["comparisons"] for answer in found["comparisons"]):
        assert f"| {each['factor']} | {each['better']} | {each['worse']} | {each['mean']:.4f} |" in text
    assert len(found["comparisons"]) >= 3
    assert found["best"] == found["candidates"][0]["cell"]
