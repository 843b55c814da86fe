"""The ranked table for a terminal: as many columns as its width holds."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from search.reporting.columns import Column, columns
from search.statistics.ranking import Row, metrics_of
from search.storage.texts import printable

GAP = 2
MAX_CELL = 28
# The first to go where space is short; then axes that have one value, then the last columns.
SPARE = (
    "as published",
    "tokens",
    "perplexity",
    "bits/char",
    "bits/byte",
    "bits/token",
    "difference",
    "published",
    "parameters",
    "seconds",
    "train_loss",
    "seeds",
    "± 95 %",
)
KEPT = ("#", "front", "state")


def as_terminal_table(rows: Sequence[Row], width: int, cols: Sequence[Column] | None = None) -> str:
    """The ranked table in lines of at most `width` cells; a last line names the columns that do not fit.

    Args:
        cols: Its columns, of which the last ones are left out first; None for those with something to say.
    """
    found = columns(rows) if cols is None else cols
    texts = {each.title: [_cut(printable(each.text(row)), MAX_CELL) for row in rows] for each in found}
    if cols is None:
        shown = _fitting(found, texts, width, {*KEPT, *(each.name for each in metrics_of(rows))})
    else:
        shown = _first(found, texts, width)
    sizes = [_size(column, texts) for column in shown]
    lines = [_line(shown, sizes, [column.title for column in shown], width)]
    lines += [_line(shown, sizes, [texts[column.title][at] for column in shown], width) for at in range(len(rows))]
    if left_out := [column.title for column in found if column not in shown]:
        lines.append(_cut(f"no space for: {', '.join(left_out)}", width))
    return "\n".join(lines)


def _fitting(found: Sequence[Column], texts: dict[str, list[str]], width: int, kept: set[str]) -> list[Column]:
    constant = [column.title for column in found if len(set(texts[column.title])) == 1 and len(texts[column.title]) > 1]
    others = [column.title for column in reversed(found)]
    shown = list(found)
    for title in (*SPARE, *constant, *others):
        if sum(_size(column, texts) + GAP for column in shown) - GAP <= width:
            break
        if title not in kept:
            shown = [column for column in shown if column.title != title]
    return shown


def _first(found: Sequence[Column], texts: dict[str, list[str]], width: int) -> list[Column]:
    """As many columns from the left as fit; at least one."""
    shown = list(found)
    while len(shown) > 1 and sum(_size(column, texts) + GAP for column in shown) - GAP > width:
        shown.pop()
    return shown


def _size(column: Column, texts: dict[str, list[str]]) -> int:
    return max(map(cell_len, (column.title, *texts[column.title])))


def _line(shown: Sequence[Column], sizes: Sequence[int], texts: Sequence[str], width: int) -> str:
    cells = [
        " " * (size - cell_len(text)) + text if column.is_number else set_cell_size(text, size)
        for column, size, text in zip(shown, sizes, texts, strict=True)
    ]
    return _cut((" " * GAP).join(cells).rstrip(), width)


def _cut(line: str, width: int) -> str:
    return line if cell_len(line) <= width else set_cell_size(line, max(0, width - 1)) + "…"
