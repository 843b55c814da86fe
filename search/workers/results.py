"""Reads what a function returned as its result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from search.errors import UsageError
from search.objectives.generator_run import shortened


def values_of(result: object, metrics: Sequence[str]) -> tuple[list[float], dict[str, float]]:
    """The values that an objective returned, and its other metrics.

    Args:
        metrics: The names of the study's metrics.

    Returns:
        A value for each metric of the study, and further numbers by name.

    Raises:
        UsageError: It returned something else; the message says what.
    """
    if isinstance(result, Mapping):
        given = {str(name): _number(value, result) for name, value in result.items()}
        missing = [name for name in metrics if name not in given]
        if missing:
            raise UsageError(
                f"the objective returned the metrics {', '.join(given) or 'none'}, but not {missing[0]!r}, by which "
                "the study ranks; return it too, or name another in the study file"
            )
        return [given.pop(name) for name in metrics], given
    if isinstance(result, Sequence) and not isinstance(result, (str, bytes)):
        values = [_number(value, result) for value in result]
    else:
        values = [_number(result, result)]
    if len(values) != len(metrics):
        raise UsageError(
            f"the objective returned {len(values)} values, but the study has {len(metrics)} directions; "
            f"write in the study file: directions = {['minimize'] * len(values)}"
        )
    return values, {}


def _number(value: object, result: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UsageError(
            f"the objective returned {shortened(result)}; it must return a number, several numbers, or numbers by "
            "metric"
        ) from None
    if math.isnan(number):
        raise UsageError("the objective returned NaN; return a number, or raise optuna.TrialPruned")
    return number
