"""Cells, axis values, losses and numbers of things as text: of any value, in one line, never an error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from search.storage.texts import printable

# Significant digits of a real number: enough for a draw from a range.
DIGITS = 6
# Digits that tell any two real numbers apart.
MAX_DIGITS = 17


def value_text(value: object, digits: int = DIGITS) -> str:
    """A value of an axis as text.

    Args:
        digits: Significant digits of a real number; `enough_digits` gives those that tell the values of an axis apart.
    """
    if value is None:
        return ""
    return f"{value:.{digits}g}" if isinstance(value, float) else printable(value)


def enough_digits(values: Iterable[object]) -> int:
    """The significant digits, `DIGITS` or more, with which different real numbers have different texts."""
    numbers = {value for value in values if isinstance(value, float)}
    for digits in range(DIGITS, MAX_DIGITS):
        if len({f"{number:.{digits}g}" for number in numbers}) == len(numbers):
            return digits
    return MAX_DIGITS


def axis_digits(cells: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The digits that tell the values of each axis apart, by axis; for `describe_cell`."""
    values: dict[str, list[object]] = {}
    for cell in cells:
        for axis, value in cell.items():
            if isinstance(value, float):
                values.setdefault(axis, []).append(value)
    return {axis: enough_digits(found) for axis, found in values.items()}


def describe_cell(cell: Mapping[str, Any], digits: Mapping[str, int] | None = None) -> str:
    """A cell in one short line.

    Args:
        digits: Significant digits by axis; `DIGITS` for others.
    """
    texts = {name: value_text(value, (digits or {}).get(name, DIGITS)) for name, value in cell.items()}
    plain = ("model", "pe_type")
    named = [texts[name] for name in plain if name in texts]
    return " ".join([*named, *(f"{name}={text}" for name, text in texts.items() if name not in plain)])


def describe_level(factor: str, value: Any, digits: Mapping[str, int] | None = None) -> str:
    """A value of an axis, or a cell, in a few words; arguments as for `describe_cell`."""
    if isinstance(value, Mapping):
        return describe_cell(value, digits)
    return value_text(value, (digits or {}).get(factor, DIGITS))


def values_text(values: Iterable[object], most: int = 12) -> str:
    """The values of an axis in one line: the first ones and the last if there are more than `most`."""
    values = list(values)
    digits = enough_digits(values)
    shown = values if len(values) <= most else [*values[: most - 2], "…", values[-1]]
    texts = ", ".join(value_text(value, digits) for value in shown)
    return texts if len(values) <= most else f"{texts} ({len(values)} values)"


def loss_text(value: float | None, digits: int = 5) -> str:
    """A loss with `digits` decimal places, or with an exponent if it is too small or too large for them.

    A language model's losses are between 0 and 10; those of a user's objective can be any number.
    """
    if value is None:
        return ""
    plain = value == 0 or 10.0**-digits <= abs(value) < 1e7 or not math.isfinite(value)
    return f"{value:.{digits}f}" if plain else f"{value:.{digits - 1}e}"


def metric_text(values: Iterable[float | None], digits: int = 5) -> Callable[[float | None], str]:
    """How the values of one metric are written: as whole numbers if all of them are counts, else as losses.

    Args:
        values: All that are shown together.
    """
    are_counts = all(value is None or (abs(value) < 1e15 and value == int(value)) for value in values)
    return (lambda value: "" if value is None else f"{value:.0f}") if are_counts else partial(loss_text, digits=digits)


def largest_size(values: Iterable[float | None]) -> float:
    """The largest absolute value, 0.0 without any; for `difference_text`."""
    return max((abs(value) for value in values if value is not None and math.isfinite(value)), default=0.0)


def difference_text(value: float | None, digits: int = 5, largest: float = 0.0) -> str:
    """A difference of losses as `loss_text`, with its sign.

    Args:
        largest: The largest size of a difference in the same column. Beside one that needs no exponent, smaller ones
            have none either: +0.0000.
    """
    is_small = value is not None and 0 < abs(value) < 10.0**-digits <= largest
    text = f"{value:.{digits}f}" if is_small else loss_text(value, digits)
    return text if text.startswith(("-", "nan")) or not text else f"+{text}"


def count_text(number: int, noun: str, plural: str | None = None) -> str:
    """A number of things: "1 trial", "2 trials"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def size_text(size: float) -> str:
    """A number of bytes, such as "1.2 MB"."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def ranges_text(numbers: Sequence[int]) -> str:
    """Sorted integers as text, such as "0 to 3, 7"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join(" to ".join(map(str, part)) for part in parts) or "none"


def number_text(value: float) -> str:
    """A size of any magnitude with three significant digits; whole numbers below 100,000 with all."""
    if math.isinf(value):
        return "∞"
    if abs(value) < 1e5 and value == round(value):
        return f"{value:.0f}"
    if 1e-4 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    mantissa, power = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
