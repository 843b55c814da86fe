"""What a comparison holds fixed, and what moves along with the compared values: a verdict is about nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search.objectives.language_model.settings import UNTRAINED
from search.statistics.comparison import Levels
from search.statistics.inference import mean
from search.statistics.ranking import Row
from search.storage.values import canonical
from search.study.formatting import value_text
from search.study.stored import StoredStudy

# So many settings are named.
MAX_SETTINGS = 8
# Facts of a trial that can move along with an axis, and what they are called.
_FACTS = {"n_params": "parameters", "tokens": "tokens seen"}


def held_fixed(stored: StoredStudy) -> str:
    """The settings that all trials share, such as "learning_rate 0.01, batch_size 64"; "" without any."""
    definition = stored.definition
    settings: dict[str, Any] = {
        name: values[0] for name, values in definition.grid.items() if len(values) == 1 and name != "model"
    }
    settings |= {name: value for name, value in stored.used_training.items() if name not in UNTRAINED}
    settings |= {name: value for name, value in definition.user_settings.items() if name != "command"}
    varied = {*definition.axes, *(name for name, values in definition.grid.items() if len(values) > 1)}
    shown = [
        f"{name} {value_text(value)}"
        for name, value in settings.items()
        if name not in varied and isinstance(value, (str, int, float)) and value != ""
    ]
    return ", ".join(shown[:MAX_SETTINGS])


def moves_along(levels: Sequence[Levels], rows: Sequence[Row]) -> str:
    """What else differs between the compared levels, such as "tokens seen ×8 from block_size 8 to 64".

    Args:
        levels: What a claim compares.
        rows: The ranked table.
    """
    found = []
    for fact, name in _FACTS.items():
        values = _values(levels, rows, fact)
        if len(values) < 2:
            continue
        (low, least), (high, most) = min(values, key=_second), max(values, key=_second)
        if least > 0 and most / least > 1.01:
            factor = levels[0].factor
            where = "" if factor == "cell" else f" from {factor} {value_text(low)} to {value_text(high)}"
            found.append(f"{name} ×{most / least:.3g}{where}")
    return "; ".join(found)


def _values(levels: Sequence[Levels], rows: Sequence[Row], fact: str) -> list[tuple[Any, float]]:
    """The mean of a fact over the cells of each level."""
    compared = {canonical(value): value for each in levels for value in (each.one, each.other)}
    factor = levels[0].factor
    of_level: dict[str, list[float]] = {}
    for row in rows:
        key = canonical(row.cell if factor == "cell" else row.cell.get(factor))
        value = getattr(row, fact)
        # A trial that was pruned has seen less than the others, whatever its level.
        if key in compared and value is not None and (row.state == "complete" or fact != "tokens"):
            of_level.setdefault(key, []).append(float(value))
    return [(compared[key], mean(values)) for key, values in of_level.items()]


def _second(pair: tuple[Any, float]) -> float:
    return pair[1]


def conditions_text(held: str, moves: str) -> str:
    """Both as sentences; "" if there is nothing to say."""
    sentences = [f"Held fixed: {held}."] if held else []
    return " ".join([*sentences, *([f"Moves along: {moves}."] if moves else [])])
