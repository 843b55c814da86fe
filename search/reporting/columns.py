"""The columns of the ranked table: which a study has, which are shown, and which are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from search.errors import UsageError
from search.statistics.ranking import Row, metrics_of
from search.storage.texts import printable
from search.study.formatting import (
    DIGITS,
    axis_digits,
    difference_text,
    largest_size,
    loss_text,
    metric_text,
    value_text,
)
from search.study.text_unit import PERPLEXITY, perplexity_text
from search.study.validation_messages import did_you_mean

# The columns of the experiment log, in its order; other axes follow in the order of the cell.
FIRST_AXES = ("model", "pe_type", "n_embd", "block_size")
_AGREES = {True: "agrees", False: "differs", None: ""}


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        title: Its heading.
        value: Its value in a row; None if the row has no such value.
        text: The same as text; "" if the row has no such value.
        is_number: Whether it is aligned right.
        is_metric: Whether it is a metric besides the first.
        is_shown: Whether it appears unless other columns are asked for.
        names: What else it is called in a list of columns, the plainest name first.
    """

    title: str
    value: Callable[[Row], Any]
    text: Callable[[Row], str]
    is_number: bool = True
    is_metric: bool = False
    is_shown: bool = True
    names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called in a list of columns."""
        return self.names[0] if self.names else self.title


def columns(rows: Sequence[Row], names: Sequence[str] | None = None) -> list[Column]:
    """The columns of a table.

    Args:
        names: Those that are asked for, in their order; None for those with something to say: columns that are empty,
            and axes and sizes that are equal in all rows, are left out.

    Raises:
        UsageError: `rows` have no such column; the message has the choices.
    """
    every = all_columns(rows)
    return [column for column in every if column.is_shown] if names is None else [_find(every, each) for each in names]


def _find(every: Sequence[Column], name: str) -> Column:
    if (found := next((column for column in every if name == column.title), None)) is not None:
        return found
    if (found := next((column for column in every if name in column.names), None)) is not None:
        return replace(found, names=(name,))
    choices = [column.name for column in every]
    raise UsageError(
        f"no column {printable(name)!r} in the table of this study{did_you_mean(name, choices)}; choices: "
        f"{', '.join(map(printable, choices))}"
    )


def all_columns(rows: Sequence[Row]) -> list[Column]:
    """All columns of a table, in its order, also those that are not shown by default."""
    axes = {name: None for row in rows for name in row.cell}
    ordered = [name for name in FIRST_AXES if name in axes] + [name for name in axes if name not in FIRST_AXES]
    digits = axis_digits(row.cell for row in rows)
    of_axes = {name: _axis(name, digits) for name in ordered}
    varied = [name for name in ordered if _varies(rows, of_axes[name])] or ordered
    shown = {name: replace(column, is_shown=name in varied) for name, column in of_axes.items()}
    largest = largest_size(row.difference for row in rows)
    has_published = any(row.published is not None for row in rows)
    metric = metrics_of(rows)[0].name
    return _distinct(
        [
            Column("#", lambda row: row.rank, lambda row: value_text(row.rank), names=("rank",)),
            *(shown[name] for name in ordered if name == "model"),
            _loss("train_loss", rows, lambda row: row.train_loss),
            replace(_loss(metric, rows, lambda row: row.val_loss), is_shown=True),
            _loss("± 95 %", rows, lambda row: row.interval, "interval", "val_interval"),
            *_of_language_model(rows),
            *(_metric(name, rows) for name in further_names(rows)),
            Column("front", lambda row: row.on_front, lambda row: "yes" if row.on_front else "", is_number=False,
                   is_shown=any(row.on_front is not None for row in rows), names=("front", "on_front")),
            *(shown[name] for name in ordered if name != "model"),
            Column("seeds", lambda row: row.trials[0], lambda row: f"{row.trials[0]}/{row.trials[1]}",
                   is_shown=any(row.trials[1] > 1 for row in rows), names=("seeds", "trials")),
            _size("parameters", rows, lambda row: row.n_params, "n_params"),
            _size("tokens", rows, lambda row: row.tokens),
            replace(_loss("published", rows, lambda row: row.published), is_shown=has_published),
            Column("difference", lambda row: row.difference, partial(_difference, largest),
                   is_shown=has_published),
            Column("as published", lambda row: row.published_agrees, lambda row: _AGREES[row.published_agrees],
                   is_number=False, is_shown=any(row.published_agrees is not None for row in rows),
                   names=("agrees", "published_agrees")),
            Column("step", lambda row: row.step, lambda row: value_text(row.step), is_shown=False),
            *(_of_seeds(at, name) for at, name in enumerate(("lowest", "highest"))),
            Column("feasible", lambda row: row.is_feasible, lambda row: "yes" if row.is_feasible else "no",
                   is_number=False, is_shown=False),
            Column("seconds", lambda row: row.seconds, lambda row: "" if row.seconds is None else f"{row.seconds:.1f}",
                   is_shown=any(row.seconds is not None for row in rows)),
            Column("state", lambda row: row.state, _state, is_number=False),
        ]
    )  # fmt: skip


def _difference(largest: float, row: Row) -> str:
    return difference_text(row.difference, largest=largest)


def _varies(rows: Sequence[Row], column: Column) -> bool:
    return len(rows) < 2 or len({column.text(row) for row in rows}) > 1


def _loss(title: str, rows: Sequence[Row], value: Callable[[Row], float | None], *names: str) -> Column:
    shown = any(value(row) is not None for row in rows)
    return Column(title, value, lambda row: loss_text(value(row)), is_shown=shown, names=names)


def _of_language_model(rows: Sequence[Row]) -> list[Column]:
    """The loss in other units: bits, and perplexity."""
    unit = next((row.loss_unit for row in rows), None)
    if unit is None:
        return []
    shown = any(row.bits is not None for row in rows)
    return [
        Column(unit.short_bits, lambda row: row.bits, lambda row: loss_text(row.bits), is_shown=shown,
               names=("bits", unit.bits_key)),
        Column(PERPLEXITY, lambda row: row.perplexity, lambda row: perplexity_text(row.perplexity), is_shown=shown),
    ]  # fmt: skip


def _of_seeds(at: int, name: str) -> Column:
    """The lowest or the highest value of a seed."""

    def value(row: Row) -> float | None:
        return None if row.seed_range is None else row.seed_range[at]

    names = (name, f"val_{name}")
    return Column(f"{name} of the seeds", value, lambda row: loss_text(value(row)), is_shown=False, names=names)


def _size(title: str, rows: Sequence[Row], value: Callable[[Row], int | None], *names: str) -> Column:
    column = Column(title, value, lambda row: value_text(value(row)), names=(title, *names) if names else ())
    return replace(column, is_shown=any(value(row) is not None for row in rows) and _varies(rows, column))


def _distinct(found: Sequence[Column]) -> list[Column]:
    """The columns; a metric that is called as another column gets a prefix, as in Optuna's own tables."""
    taken = Counter(column.title for column in found if column.is_shown)
    return [
        replace(column, title=f"values_{column.title}") if column.is_metric and taken[column.title] > 1 else column
        for column in found
    ]


def further_names(rows: Sequence[Row]) -> list[str]:
    """The names of further objectives, then of other metrics, that any of the rows has."""
    names = {name: None for row in rows for name in row.further}
    objectives = [each.name for each in metrics_of(rows)]
    return sorted(names, key=lambda name: objectives.index(name) if name in objectives else len(objectives))


def _metric(name: str, rows: Sequence[Row]) -> Column:
    text = metric_text(row.further.get(name) for row in rows)
    return Column(name, lambda row: row.further.get(name), lambda row: text(row.further.get(name)), is_metric=True)


def _axis(name: str, digits: Mapping[str, int]) -> Column:
    return Column(
        name,
        lambda row: row.cell.get(name),
        lambda row: value_text(row.cell.get(name), digits.get(name, DIGITS)),
        is_number=name not in ("model", "pe_type"),
    )


def _state(row: Row) -> str:
    # With the step, because such a cell may have complete trials, and its loss is then that of the complete ones.
    if row.state in ("pruned", "running") and row.step is not None:
        return f"{row.state}, {row.metric.short_label} at step {row.step}"
    return row.state if row.is_feasible else f"{row.state}, infeasible"
