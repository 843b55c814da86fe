"""Which columns a table has: those with something to say, or those that are asked for."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from study_files import opened, sqlite
from trained_studies import trained
from typer.testing import CliRunner

from search.errors import UsageError
from search.report import app
from search.reporting.columns import columns
from search.reporting.render import render
from search.reporting.study_result import StudyResult
from search.reporting.tables import as_csv, as_markdown
from search.reporting.terminal_table import as_terminal_table
from search.statistics.ranking import Row
from search.storage.database import Database
from search.study.formatting import metric_text

SOURCE = """
def objective(params):
    for step in (1, 2):
        yield step, {"val_loss": params["x"] + 1 / step, "accuracy": 0.25 * params["x"], "seconds": 7.0}
"""
OPTUNAS = """
def objective(trial):
    trial.log({"accuracy": 0.5}, 3)
    return trial.suggest_float("x", 0, 1), 2.0
"""
ASKED = ["rank", "accuracy", "x", "values_seconds", "step", "state"]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A study with two metrics besides that which ranks, and an axis of one value."""
    with opened(trained(tmp_path, SOURCE, "[grid]\nx = [1, 2]\nwidth = [64]", "wide")).closing() as database:
        yield database


def titles(rows: list[Row]) -> list[str]:
    return [column.title for column in columns(rows)]


def test_columns_without_anything_to_say_are_left_out(database: Database) -> None:
    head = render(database, ["wide"], "markdown").split("\n| ", maxsplit=1)[1].splitlines()[0]
    assert re.findall(r"[\w#]+", head) == ["#", "val_loss", "accuracy", "values_seconds", "x", "seconds", "state"]
    header = render(database, ["wide"], "csv").splitlines()[0].split(",")
    # A program may need an axis of one value.
    known = ["rank", "x", "width", "val_loss", "accuracy", "values_seconds", "state", "step", "trials", "planned"]
    assert header == [*known, "seconds", "val_lowest", "val_highest"]


def test_one_row_keeps_its_axes_and_rows_without_another_axis_keep_all() -> None:
    row = Row(1, {"x": 1, "y": 2}, "complete", (1, 1), None, 0.5, 1, 100, None, None, tokens=9)
    assert titles([row]) == ["#", "val_loss", "x", "y", "parameters", "tokens", "state"]
    assert titles([row, row]) == ["#", "val_loss", "x", "y", "state"]
    other = Row(2, {"x": 2, "y": 2}, "complete", (1, 3), 0.4, 0.5, 1, 101, 1.0, None, tokens=9)
    assert titles([row, other]) == ["#", "train_loss", "val_loss", "x", "seeds", "parameters", "seconds", "state"]
    assert titles([]) == ["#", "val_loss", "state"]


def test_asked_for_columns_in_every_format(database: Database) -> None:
    texts = {form: render(database, ["wide"], form, columns=ASKED) for form in ("markdown", "csv", "latex", "html")}
    assert list(csv.reader(io.StringIO(texts["csv"]))) == [
        ASKED,
        ["1", "0.25", "1", "7.0", "2", "complete"],
        ["2", "0.5", "2", "7.0", "2", "complete"],
    ]
    heads = ["#", "accuracy", "x", "values_seconds", "step", "state"]
    lines = texts["markdown"].replace("\\", "").splitlines()
    [at] = [at for at, line in enumerate(lines) if line.startswith("|   # |")]
    assert [each.strip() for each in lines[at].strip("| ").split("|")] == heads
    assert [each.strip() for each in lines[at + 2].strip("| ").split("|")] == [
        "1",
        "0.25000",
        "1",
        "7",
        "2",
        "complete",
    ]
    assert r"\# & accuracy & x & values\_seconds & step & state \\" in texts["latex"]
    table = texts["html"].split('<section id="table">')[1].split("</section>")[0]
    assert re.findall(r"<th(?: [^>]*)?>(.*?)</th>", table) == heads
    assert re.findall(r"<td(?: [^>]*)?>(.*?)</td>", table)[:6] == ["1", "0.25000", "1", "7", "2", "complete"]
    wide = render(database, ["wide"], "markdown", width=200, columns=ASKED)
    assert "#  accuracy  x  values_seconds  step  state" in wide
    narrow = render(database, ["wide"], "markdown", width=20, columns=ASKED)
    assert "no space for: valu" in narrow  # the last ones go first


def test_every_column_can_be_asked_for_by_its_plain_name(database: Database) -> None:
    with pytest.raises(UsageError) as caught:
        render(database, ["wide"], "markdown", columns=["rank", "acuracy"])
    text = str(caught.value)
    assert text.startswith("no column 'acuracy' in the table of this study (did you mean 'accuracy'?); choices: rank, ")
    choices = text.split("choices: ")[1].split(", ")
    assert {"interval", "parameters", "agrees", "width", "seeds", "accuracy", "train_loss", "lowest", "feasible"} <= {
        *choices
    }
    header = render(database, ["wide"], "csv", columns=choices).splitlines()[0]
    assert header.split(",") == choices
    assert render(database, ["wide"], "csv", columns=["#", "± 95 %", "val_loss"]).startswith("rank,interval,val_loss\n")


def test_the_command_line(database: Database, tmp_path: Path) -> None:
    def report(*arguments: str) -> tuple[int, str]:
        given = ["--study", "wide", "--storage", sqlite(tmp_path), *arguments]
        result = CliRunner().invoke(app, given)
        return result.exit_code, result.stdout + result.stderr

    assert report("--columns", "x, val_loss", "--format", "csv", "--top", "1") == (0, "x,val_loss\n1,1.5\n")
    for wrong, text in {
        ("--columns", "x,,y"): "--columns 'x,,y': write NAME,NAME",
        ("--columns", "y"): "no column 'y' in the table of this study",
        ("--columns", "x", "--format", "json"): "json has all columns",
    }.items():
        out = tmp_path / "report.out"
        code, said = report(*wrong, "--output", str(out))
        assert (code, len(said.strip().splitlines()), out.exists()) == (2, 1, False), said
        assert text in said


def test_from_python(database: Database, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    result = StudyResult("wide", sqlite(tmp_path), [], {}, 1.0, 0)
    assert result.report("csv", columns=["x", "accuracy"]) == "x,accuracy\n1,0.25\n2,0.5"
    table = result.to_dataframe()
    head = ["number", "state", "seed", "x", "width", "val_loss", "accuracy", "values_seconds", "step", "seconds"]
    assert list(table.columns) == head
    assert list(table["accuracy"]) == [0.25, 0.5]
    folder = tmp_path / "optunas"
    folder.mkdir()
    trained(folder, OPTUNAS, "metrics = ['error', 'size']\ndirections = ['minimize', 'minimize']\ntrials = 2", "two")
    table = StudyResult("two", sqlite(folder), [], {}, 1.0, 0).to_dataframe()
    assert isinstance(table, pandas.DataFrame)
    # It takes no seed, and reported no step.
    assert list(table.columns) == ["number", "state", "x", "error", "size", "accuracy", "seconds"]


def test_tables_of_given_rows_take_columns() -> None:
    rows = [Row(1, {"x": 1}, "complete", (1, 1), None, 0.5, 1, None, None, None)]
    cols = columns(rows, ["x", "state"])
    assert as_markdown(rows, cols).splitlines()[0] == "|   x | state    |"
    assert as_csv(rows, cols) == "x,state\n1,complete"
    assert as_terminal_table(rows, 80, cols).splitlines()[0] == "x  state"


def test_counts_are_written_as_whole_numbers() -> None:
    assert [metric_text([12220.0, None, 520.0])(value) for value in (12220.0, None)] == ["12220", ""]
    assert metric_text([12220.0, 0.5])(12220.0) == "12220.00000"
    assert metric_text([math.nan, 1.0])(1.0) == "1.00000"
    assert metric_text([math.inf, 1e300])(math.inf) == "inf"
