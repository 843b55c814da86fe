"""The parameters of a sweep file of Weights & Biases as the axes of a study."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from search.errors import UsageError
from search.storage.texts import printable

MOST_LISTED = 1_000
_USE_A_RANGE = "give min and max (uniform or log_uniform_values), or a list of values"


@dataclass(frozen=True)
class SweepAxes:
    """The axes of a study.

    Attributes:
        grid, ranges: Lists of values, and ranges.
        flags: The name of each axis on a command line.
        seeds: `seeds` and `first_seed` of a parameter called seed; empty without one.
    """

    grid: dict[str, list[Any]] = field(default_factory=dict)
    ranges: dict[str, dict[str, Any]] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)


def read_axes(parameters: Mapping[str, Any], method: str) -> SweepAxes:
    """Convert the parameters of a sweep.

    Args:
        method: That of the sweep; a grid needs lists.

    Raises:
        UsageError: A parameter has no counterpart.
    """
    axes = SweepAxes()
    for name, parameter in parameters.items():
        if not isinstance(parameter, Mapping):
            raise UsageError(f"parameters.{printable(name)}: {printable(parameter)} has no value, values, min or max")
        axis = re.sub(r"\W", "_", str(name))
        axis = axis if axis.isidentifier() else f"_{axis}"
        if axis in axes.flags:
            raise UsageError(f"parameters.{name}: another parameter is called {axes.flags[axis]}; rename one of them")
        axes.flags[axis] = str(name)
        found = _axis(f"parameters.{name}", parameter)
        if isinstance(found, dict) and method == "grid":
            found = _listed(f"parameters.{name}", found)
        if axis == "seed":
            axes.seeds.update(_seeds(found))
        elif isinstance(found, dict):
            axes.ranges[axis] = found
        else:
            axes.grid[axis] = found
    return axes


def _axis(named: str, parameter: Mapping[str, Any]) -> list[Any] | dict[str, Any]:
    """A list of values, or a range."""
    if "parameters" in parameter:
        raise UsageError(f"{named}: nested parameters are not supported; write them at the top, such as optimizer_lr")
    if "probabilities" in parameter and len(set(parameter["probabilities"])) > 1:
        raise UsageError(f"{named}: probabilities are not supported; remove them, and each value is as likely")
    if "value" in parameter:
        return [_scalar(parameter["value"])]
    if "values" in parameter:
        if not isinstance(parameter["values"], list) or not parameter["values"]:
            raise UsageError(f"{named}.values: {printable(parameter['values'])} is no list of values")
        return [_scalar(value) for value in parameter["values"]]
    if "min" not in parameter or "max" not in parameter:
        kind = f"distribution {parameter['distribution']}" if "distribution" in parameter else "this parameter"
        raise UsageError(f"{named}: {kind} is not supported without min and max; {_USE_A_RANGE}")
    low, high = (read_number(f"{named}.{key}", parameter[key]) for key in ("min", "max"))
    are_integers = isinstance(low, int) and isinstance(high, int)
    distribution = parameter.get("distribution", "int_uniform" if are_integers else "uniform")
    if distribution not in _RANGES:
        raise UsageError(f"{named}: distribution {printable(distribution)} is not supported; {_USE_A_RANGE}")
    step = read_number(f"{named}.q", parameter.get("q", 1))
    if step <= 0:
        raise UsageError(f"{named}.q: {printable(step)} is no step; write a number above 0")
    try:
        found = _RANGES[distribution](low, high, step)
    except OverflowError:
        raise UsageError(
            f"{named}: {distribution} takes the exponents of the values, and e to the power of {high} is too large; "
            "write log_uniform_values for the values themselves"
        ) from None
    return [found["low"]] if found["low"] == found["high"] else found


def _uniform(low: float, high: float, _step: float) -> dict[str, Any]:
    return {"low": float(low), "high": float(high)}


def _steps(low: float, high: float, step: float) -> dict[str, Any]:
    # A sweep rounds to multiples of q.
    unit = Decimal(str(step))
    # In decimals: as a float 3 * 0.15 is below 0.45, which would then be beyond the last step.
    ends = [float(round(Decimal(str(end)) / unit) * unit) for end in (low, high)]
    kind = int if all(each.is_integer() for each in (*ends, float(step))) else float
    return {"low": kind(ends[0]), "high": kind(ends[1]), "step": kind(step)}


_RANGES: dict[str, Callable[[float, float, float], dict[str, Any]]] = {
    "uniform": _uniform,
    "int_uniform": lambda low, high, _step: {"low": math.ceil(low), "high": math.floor(high)},
    "q_uniform": _steps,
    "log_uniform_values": lambda low, high, step: {**_uniform(low, high, step), "log": True},
    "log_uniform": lambda low, high, step: {**_uniform(math.exp(low), math.exp(high), step), "log": True},
}


def _listed(named: str, found: Mapping[str, Any]) -> list[Any]:
    """The values of a range of integers, or of one with a step, for a grid."""
    if not isinstance(found["low"], int):
        raise UsageError(f"{named}: method grid needs a list of values, not a range; or write method: random")
    values = list(range(found["low"], found["high"] + 1, found.get("step", 1)))
    if len(values) > MOST_LISTED:
        raise UsageError(f"{named}: method grid would try {len(values)} values; write method: random")
    return values


def _seeds(found: list[Any] | Mapping[str, Any]) -> dict[str, int]:
    """A parameter called seed: the seeds of each cell."""
    values: Sequence[int] = ()
    if isinstance(found, Mapping):
        if isinstance(found["low"], int) and found.get("step", 1) == 1:
            values = range(found["low"], found["high"] + 1)
    elif all(type(value) is int for value in found) and sorted(found) == [*range(min(found), min(found) + len(found))]:
        values = sorted(found)
    if not values:
        raise UsageError(
            f"parameters.seed: {printable(found)} cannot be the seeds of each cell; write consecutive whole numbers, "
            "or rename the parameter"
        )
    return {"seeds": values[-1] - values[0] + 1, "first_seed": values[0]}


def _scalar(value: Any) -> Any:
    """A value; YAML reads 1e-4 as a text, and means a number."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", value):
        return float(value)
    return value


def read_number(named: str, value: Any) -> int | float:
    """A finite number.

    Raises:
        UsageError: The value is none.
    """
    found = _scalar(value)
    if type(found) not in (int, float) or not math.isfinite(found):
        raise UsageError(f"{named}: {printable(value)} is no number")
    return int(found) if isinstance(found, int) else float(found)
