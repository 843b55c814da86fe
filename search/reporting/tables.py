"""The ranked table as text: markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from search.reporting.escapes import csv_value, markdown_text
from search.statistics.ranking import Row, metrics_of
from search.study.formatting import DIGITS, axis_digits, difference_text, largest_size, loss_text, value_text
from search.study.metrics import DEFAULT_NAME

# The columns of the experiment log, in its order; other axes follow in the order of the cell.
FIRST_AXES = ("model", "pe_type", "n_embd", "block_size")
_INSIDE = {True: "inside", False: "outside", None: ""}


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        title: Its heading.
        text: The text of the column in a row; "" if the row has no such value.
        is_number: Whether it is aligned right.
        is_metric: Whether it is a metric besides the first.
    """

    title: str
    text: Callable[[Row], str]
    is_number: bool = True
    is_metric: bool = False


def columns(rows: Sequence[Row]) -> list[Column]:
    """The columns that `rows` need: axes of at least one row, and seeds if a cell has more than one."""
    axes = {name: None for row in rows for name in row.cell}
    ordered = [name for name in FIRST_AXES if name in axes] + [name for name in axes if name not in FIRST_AXES]
    digits = axis_digits(row.cell for row in rows)
    found = [Column("#", lambda row: value_text(row.rank))]
    found += [_axis(name, digits) for name in ordered if name == "model"]
    metrics = metrics_of(rows)
    # Of a study that ranks by a loss, the table of the experiment log has both.
    if metrics[0].name == DEFAULT_NAME or any(row.train_loss is not None for row in rows):
        found.append(Column("train_loss", lambda row: loss_text(row.train_loss)))
    found.append(Column(metrics[0].name, lambda row: loss_text(row.val_loss)))
    if any(row.interval is not None for row in rows):
        found.append(Column("± 95 %", lambda row: loss_text(row.interval)))
    found += [_metric(name) for name in further_names(rows)]
    if any(row.on_front is not None for row in rows):
        found.append(Column("front", lambda row: "yes" if row.on_front else "", is_number=False))
    found += [_axis(name, digits) for name in ordered if name != "model"]
    if any(row.trials[1] > 1 for row in rows):
        found.append(Column("seeds", lambda row: f"{row.trials[0]}/{row.trials[1]}"))
    if any(row.n_params is not None for row in rows):
        found.append(Column("parameters", lambda row: value_text(row.n_params)))
    if any(row.tokens is not None for row in rows):
        found.append(Column("tokens", lambda row: value_text(row.tokens)))
    if any(row.published is not None for row in rows):
        found.append(Column("published", lambda row: loss_text(row.published)))
        largest = largest_size(row.difference for row in rows)
        found.append(Column("difference", lambda row: difference_text(row.difference, largest=largest)))
    if any(row.published_inside is not None for row in rows):
        found.append(Column("in seeds' range", lambda row: _INSIDE[row.published_inside], is_number=False))
    found.append(Column("seconds", lambda row: "" if row.seconds is None else f"{row.seconds:.1f}"))
    found.append(Column("state", _state, is_number=False))
    return _distinct(found)


def _distinct(found: Sequence[Column]) -> list[Column]:
    """The columns; a metric that is called as another column gets a prefix, as in Optuna's own tables."""
    taken = Counter(column.title for column in found)
    return [
        replace(column, title=f"values_{column.title}") if column.is_metric and taken[column.title] > 1 else column
        for column in found
    ]


def further_names(rows: Sequence[Row]) -> list[str]:
    """The names of further objectives, then of other metrics, that any of the rows has."""
    names = {name: None for row in rows for name in row.further}
    objectives = [each.name for each in metrics_of(rows)]
    return sorted(names, key=lambda name: objectives.index(name) if name in objectives else len(objectives))


def _metric(name: str) -> Column:
    return Column(name, lambda row: loss_text(row.further.get(name)), is_metric=True)


def _axis(name: str, digits: Mapping[str, int]) -> Column:
    return Column(
        name,
        lambda row: value_text(row.cell.get(name), digits.get(name, DIGITS)),
        is_number=name not in ("model", "pe_type"),
    )


def _state(row: Row) -> str:
    # With the step, because such a cell may have complete trials, and its loss is then that of the complete ones.
    if row.state in ("pruned", "running") and row.step is not None:
        return f"{row.state}, {row.metric.short_label} at step {row.step}"
    return row.state if row.is_feasible else f"{row.state}, infeasible"


def as_markdown(rows: Sequence[Row]) -> str:
    """A markdown table with aligned columns, so that it is also readable as plain text."""
    cols = columns(rows)
    table = [
        [markdown_text(col.title) for col in cols],
        *([markdown_text(col.text(row)) for col in cols] for row in rows),
    ]
    widths = [max(3, *(len(line[i]) for line in table)) for i in range(len(cols))]
    rule = ["-" * (w - 1) + ":" if col.is_number else "-" * w for col, w in zip(cols, widths, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            text.rjust(w) if col.is_number else text.ljust(w) for text, col, w in zip(cells, cols, widths, strict=True)
        ]
        return "| " + " | ".join(padded) + " |"

    return "\n".join([line(table[0]), line(rule), *map(line, table[1:])])


def as_csv(rows: Sequence[Row]) -> str:
    """Comma-separated values, with all digits of the losses."""
    metric = metrics_of(rows)[0].name
    own = ["rank", "train_loss", "state", "step", "trials", "planned"]
    own += ["n_params", "published", "difference", "seconds"]
    own += ["val_interval", "val_lowest", "val_highest", "tokens", "published_inside", "on_front", "feasible"]
    # An axis or a metric may be called as a column; Optuna's own tables have such prefixes.
    named = {name: f"values_{name}" if name in own else name for name in (metric, *further_names(rows))}
    after = [own[1], named[metric], *(title for name, title in named.items() if name != metric), *own[2:]]
    if all(row.on_front is None for row in rows):
        after.remove("on_front")
    if all(row.is_feasible for row in rows):
        after.remove("feasible")
    titles = {name: f"params_{name}" if name in ("rank", *after) else name for row in rows for name in row.cell}
    text = io.StringIO()
    writer = csv.DictWriter(text, ["rank", *titles.values(), *after], extrasaction="ignore", lineterminator="\n")
    writer.writerow({name: csv_value(name) for name in writer.fieldnames})
    for row in rows:
        flat = row.as_dict()
        lowest, highest = row.seed_range or (None, None)
        spread = {"val_interval": row.interval, "val_lowest": lowest, "val_highest": highest}
        of_metrics = {named[metric]: row.val_loss, **{named[name]: value for name, value in row.further.items()}}
        flags = {"on_front": row.on_front, "feasible": row.is_feasible}
        values = {**flat, **spread, **flags, **of_metrics, **{titles[name]: value for name, value in row.cell.items()}}
        writer.writerow({name: csv_value(value) for name, value in values.items()})
    return text.getvalue().rstrip("\n")


def as_json(rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    """One JSON object: the keys of `facts`, and the rows under "rows"."""
    return json.dumps(finite({**facts, "rows": [row.as_dict() for row in rows]}), indent=2, ensure_ascii=False)


def finite(value: Any) -> Any:
    """A value for JSON, which has no NaN and no infinity: None in their place."""
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
