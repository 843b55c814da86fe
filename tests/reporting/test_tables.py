"""The ranked table as markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import pytest

from search.reporting.columns import columns
from search.reporting.tables import as_csv, as_json, as_markdown
from search.statistics.ranking import Row
from search.study.formatting import difference_text, largest_size, loss_text


def row(rank: int | None = 1, state: str = "complete", **changes: Any) -> Row:
    facts: dict[str, Any] = {
        "cell": {"block_size": 64, "model": "bigram_v2", "n_embd": 128, "pe_type": "rope"},
        "trials": (1, 1),
        "train_loss": 2.4674712345,
        "val_loss": 2.4869123456,
        "step": 5000,
        "n_params": 12345,
        "seconds": 71.96,
        "published": None,
    }
    return Row(rank=rank, state=state, **{**facts, **changes})


ROWS = [
    row(),
    row(2, cell={"model": "bigram", "block_size": 8}, published=2.48322, val_loss=2.5),
    row(None, "pruned", step=2000),
    row(None, "waiting", train_loss=None, val_loss=None, step=None, n_params=None, seconds=None, trials=(0, 3)),
]


def test_columns_are_those_of_the_experiment_log() -> None:
    titles = [column.title for column in columns([row()])]
    log = ["#", "model", "train_loss", "val_loss", "pe_type", "n_embd", "block_size"]
    assert titles == [*log, "parameters", "seconds", "state"]


def test_columns_for_what_some_rows_have() -> None:
    titles = [column.title for column in columns([*ROWS, row(cell={"model": "gpt", "heads": 2})])]
    log = ["#", "model", "train_loss", "val_loss", "pe_type", "n_embd", "block_size"]
    assert titles == [*log, "heads", "seeds", "parameters", "published", "difference", "seconds", "state"]


def test_markdown() -> None:
    first = [
        "|   # | model     | train_loss | val_loss | pe_type | n_embd | block_size |",
        "| --: | --------- | ---------: | -------: | ------- | -----: | ---------: |",
        "|   1 | bigram_v2 |    2.46747 |  2.48691 | rope    |    128 |         64 |",
        "|   2 | bigram    |    2.46747 |  2.50000 |         |        |          8 |",
        "|     | bigram_v2 |    2.46747 |  2.48691 | rope    |    128 |         64 |",
    ]
    rest = [
        " published | difference | seconds | state                     |",
        " --------: | ---------: | ------: | ------------------------- |",
        "           |            |    72.0 | complete                  |",
        "   2.48322 |   +0.01678 |    72.0 | complete                  |",
        "           |            |    72.0 | pruned, loss at step 2000 |",
    ]
    assert as_markdown(ROWS[:3]).splitlines() == [a + b for a, b in zip(first, rest, strict=True)]


def test_markdown_lines_up() -> None:
    lines = as_markdown(ROWS).splitlines()
    bars = {tuple(at for at, letter in enumerate(line) if letter == "|") for line in lines}
    assert len(bars) == 1
    assert "0/3" in lines[-1]


def test_markdown_of_nothing_is_a_heading() -> None:
    assert len(as_markdown([]).splitlines()) == 2


def test_csv_reads_back_with_all_digits() -> None:
    read = list(csv.DictReader(io.StringIO(as_csv(ROWS))))
    assert len(read) == len(ROWS)
    assert float(read[0]["val_loss"]) == ROWS[0].val_loss
    assert float(read[0]["train_loss"]) == ROWS[0].train_loss
    assert (read[1]["model"], read[1]["n_embd"], read[1]["block_size"]) == ("bigram", "", "8")
    assert float(read[1]["difference"]) == ROWS[1].difference
    assert (read[2]["rank"], read[2]["state"], read[2]["step"]) == ("", "pruned", "2000")
    assert (read[3]["val_loss"], read[3]["trials"], read[3]["planned"]) == ("", "0", "3")


def test_csv_quotes() -> None:
    [read] = csv.DictReader(io.StringIO(as_csv([row(cell={"note": 'a, "b"\nc'})])))
    assert read["note"] == 'a, "b"\nc'


def test_json_is_one_object() -> None:
    read = json.loads(as_json(ROWS, {"study": "bigram"}))
    assert read["study"] == "bigram"
    assert set(read["rows"][0]) == {
        *("rank", "cell", "state", "trials", "planned", "train_loss", "val_loss", "step", "n_params", "seconds"),
        *("published", "difference", "tokens", "interval", "prediction", "seeds"),
        *("seed_range", "published_agrees", "flops"),
    }
    assert read["rows"][0]["cell"]["pe_type"] == "rope"
    assert read["rows"][0]["val_loss"] == ROWS[0].val_loss
    assert read["rows"][0]["difference"] is None
    assert math.isclose(read["rows"][1]["difference"], 2.5 - 2.48322)
    assert (read["rows"][3]["trials"], read["rows"][3]["planned"]) == (0, 3)


@pytest.mark.parametrize(
    ("difference", "others", "text"),
    [
        (2.641e-05, [0.5, None], "+0.0000"),
        (-2.641e-05, [math.nan, -0.5], "-0.0000"),
        (2.641e-05, [0.00009], "+2.641e-05"),
        (2.641e-05, [], "+2.641e-05"),
        (0.0, [0.5], "+0.0000"),
        (1e9, [0.5, 1e9], "+1.000e+09"),
        (None, [0.5], ""),
    ],
)
def test_differences_of_one_column(difference: float | None, others: list[float | None], text: str) -> None:
    assert difference_text(difference, 4, largest_size(others)) == text


def test_columns_that_no_row_has_are_left_out() -> None:
    titles = [column.title for column in columns([row(n_params=None)])]
    assert "parameters" not in titles


@pytest.mark.parametrize(
    ("loss", "digits", "text"),
    [
        (2.32164, 5, "2.32164"),
        (0.0, 5, "0.00000"),
        (0.00012, 5, "0.00012"),
        (0.0000012, 5, "1.2000e-06"),
        (0.005, 3, "0.005"),
        (0.0004, 3, "4.00e-04"),
        (-3.5e200, 4, "-3.500e+200"),
        (1234567.0, 2, "1234567.00"),
        (math.nan, 4, "nan"),
        (math.inf, 4, "inf"),
        (None, 4, ""),
    ],
)
def test_losses_of_any_size(loss: float | None, digits: int, text: str) -> None:
    assert loss_text(loss, digits) == text


def test_a_metric_called_as_a_column_has_a_prefix() -> None:
    score = Row(1, {"x": 1}, "complete", (1, 1), None, 0.5, 1, None, 2.0, None, further={"seconds": 3.0, "state": 4.0})
    assert [column.title for column in columns([score])][-4:] == ["values_state", "x", "seconds", "state"]
    header, line = as_csv([score]).splitlines()
    assert dict(zip(header.split(","), line.split(","), strict=True))["values_seconds"] == "3.0"
