"""The ranked table as text: markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from search.reporting.columns import Column, columns, further_names
from search.reporting.escapes import csv_value, markdown_text
from search.statistics.ranking import Row, metrics_of

# Columns of a CSV file that it has only if a row has such a value.
_OPTIONAL = (
    *("train_loss", "n_params", "published", "difference", "seconds", "val_interval", "val_lowest", "val_highest"),
    *("tokens", "published_agrees", "on_front"),
)


def as_markdown(rows: Sequence[Row], cols: Sequence[Column] | None = None) -> str:
    """A markdown table with aligned columns, so that it is also readable as plain text.

    Args:
        cols: Its columns; None for those with something to say.
    """
    cols = columns(rows) if cols is None else cols
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


def as_csv(rows: Sequence[Row], cols: Sequence[Column] | None = None) -> str:
    """Comma-separated values, with all digits of the losses.

    Args:
        cols: Its columns; None for all that have a value.
    """
    if cols is not None:
        return _lines([column.name for column in cols], [[column.value(row) for column in cols] for row in rows])
    metric = metrics_of(rows)[0].name
    own = ["rank", "train_loss", "state", "step", "trials", "planned"]
    units = [] if not rows or rows[0].loss_unit is None else [*rows[0].loss_unit.values(None)]
    own += [*units, "n_params", "published", "difference", "seconds"]
    own += ["val_interval", "val_lowest", "val_highest", "tokens", "published_agrees", "on_front", "feasible"]
    # An axis or a metric may be called as a column; Optuna's own tables have such prefixes.
    named = {name: f"values_{name}" if name in own else name for name in (metric, *further_names(rows))}
    others = [title for name, title in named.items() if name != metric]
    after = [own[1], named[metric], *units, *others, *(name for name in own[2:] if name not in units)]
    titles = {name: f"params_{name}" if name in ("rank", *after) else name for row in rows for name in row.cell}
    flat = [_flat(row, named, titles) for row in rows]
    left_out = {name for name in _OPTIONAL if rows and all(each.get(name) is None for each in flat)}
    left_out |= {name for name in units if all(each.get(name) is None for each in flat)}
    left_out |= {"feasible"} if all(row.is_feasible for row in rows) else set()
    header = ["rank", *titles.values(), *(name for name in after if name not in left_out)]
    return _lines(header, [[each.get(name) for name in header] for each in flat])


def _flat(row: Row, named: Mapping[str, str], titles: Mapping[str, str]) -> dict[str, Any]:
    """What a CSV file can have of a row.

    Args:
        named: The titles of metrics.
        titles: Those of axes.
    """
    lowest, highest = row.seed_range or (None, None)
    spread = {"val_interval": row.interval, "val_lowest": lowest, "val_highest": highest}
    of_metrics = {named[row.metric.name]: row.val_loss, **{named[name]: value for name, value in row.further.items()}}
    flags = {"on_front": row.on_front, "feasible": row.is_feasible}
    cell = {titles[name]: value for name, value in row.cell.items()}
    return {**row.as_dict(), **spread, **flags, **of_metrics, **cell}


def _lines(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([csv_value(value) for value in line] for line in (header, *rows))
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
