"""The tables [grid] and [axes] as they are written: lists, ranges, values by name, and conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from search.storage.texts import printable
from search.storage.values import canonical, compact_json
from search.study.search_space import Range

# The spelling of Python's None in a table of values by name: TOML has no null.
NULL = "null"


def axis_order(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The axes of a study file's content in its order: those of [grid] and [axes], the table that comes first first."""
    tables = [raw[name] for name in raw if name in ("grid", "axes")]
    return tuple(dict.fromkeys(axis for table in tables if isinstance(table, Mapping) for axis in table))


def normalize_axes(raw: Any) -> Any:
    """A study file's content in the form of `StudyDefinition`.

    Returns:
        The content with lists of plain values under `grid`, ranges under `axes`, conditions under `when`, and under
        `named` the values that only have a name in a cell, because Optuna takes plain values only.

    Raises:
        ValueError: An axis is written wrongly.
    """
    if not isinstance(raw, Mapping):
        return raw
    for key, example in (("when", _WHEN_EXAMPLE), ("named", _NAMED_EXAMPLE)):
        if key in raw:
            raise ValueError(f"{key} is part of an axis: write {example}")
    raw = dict(raw)
    grid, axes = raw.get("grid", {}), raw.get("axes", {})
    if not isinstance(grid, Mapping) or not isinstance(axes, Mapping):
        return raw
    if both := grid.keys() & axes.keys():
        raise ValueError(f"the axis {min(both)} is in [grid] and in [axes]; remove one of them")
    tables = _Tables()
    for axis, value in {**grid, **axes}.items():
        tables.add(axis, value)
    if "grid" in raw or "axes" in raw:
        raw["grid"] = tables.lists
    if "axes" in raw or tables.ranges:
        raw["axes"] = tables.ranges
    if tables.when:
        # Now that each axis has given the names of its values.
        raw["when"] = {axis: tables.condition(when) for axis, when in tables.when.items()}
    raw |= {"named": tables.named} if tables.named else {}
    if isinstance(raw.get("exclude"), Sequence):
        raw["exclude"] = [tables.condition(entry) for entry in raw["exclude"]]
    if isinstance(raw.get("enqueue"), Sequence):
        raw["enqueue"] = [tables.cell(entry) for entry in raw["enqueue"]]
    return raw


_WHEN_EXAMPLE = 'n_head = { values = [2, 4], when = { model = "gpt" } }'
_NAMED_EXAMPLE = 'hidden = { values = { none = "null", small = [64] } }'


class _Tables:
    """The axes read so far; attributes as the fields of `StudyDefinition`."""

    def __init__(self) -> None:
        self.lists: dict[str, Any] = {}
        self.ranges: dict[str, Any] = {}
        self.when: dict[str, Any] = {}
        self.named: dict[str, dict[str, Any]] = {}

    def add(self, axis: str, value: Any) -> None:
        """Read one axis."""
        if isinstance(value, Mapping) and "when" in value:
            value = dict(value)
            self.when[axis] = _read_when(axis, value.pop("when"))
        if isinstance(value, Mapping) and "values" in value:
            if other := [key for key in value if key not in ("values", "named")]:
                others = ", ".join(map(str, other))
                raise ValueError(f"the axis {axis} has values and {others}; beside values it takes when and named")
            self.lists[axis] = self._values(axis, value["values"], value.get("named", {}))
        elif isinstance(value, (Mapping, Range)):
            if isinstance(value, Mapping) and not value.keys() & {"low", "high"}:
                raise ValueError(
                    f"the axis {axis} = {printable(dict(value))} has neither values nor low and high; write "
                    f"{axis} = {{ values = […] }} or {axis} = {{ low = …, high = … }}"
                )
            self.ranges[axis] = value
        else:
            self.lists[axis] = self._list(axis, value)

    def _values(self, axis: str, values: Any, named: Any) -> Any:
        if isinstance(values, Mapping):
            values, named = list(values), values
        if not isinstance(named, Mapping):
            raise ValueError(f"the axis {axis}: named = {printable(named)}: write a table of NAME = VALUE")
        given = self._named(axis, named) if named else {}
        found = self._list(axis, values)
        if isinstance(found, list) and (unused := [name for name in given if name not in found]):
            raise ValueError(f"the axis {axis}: named.{unused[0]} is not one of its values; add it to values")
        if given:
            self.named[axis] = {**self.named.get(axis, {}), **given}
        return found

    def condition(self, entry: Any) -> Any:
        """A condition on other axes, with a list of values for each."""
        if not isinstance(entry, Mapping):
            return entry
        return {
            axis: [self._name(axis, each) for each in value] if isinstance(value, list) else [self._name(axis, value)]
            for axis, value in entry.items()
        }

    def cell(self, entry: Any) -> Any:
        """A cell, with the names of its values."""
        if not isinstance(entry, Mapping):
            return entry
        return {axis: self._name(axis, value) for axis, value in entry.items()}

    def _name(self, axis: str, value: Any) -> Any:
        if not _needs_name(value):
            return value
        wanted = canonical(_with_none(value))
        found = (name for name, each in self.named.get(axis, {}).items() if canonical(each) == wanted)
        return next(found, value_name(value))

    def _list(self, axis: str, values: Any) -> Any:
        if isinstance(values, tuple):
            values = list(values)
        if values is None or isinstance(values, (bool, int, float, str)):
            values = [values]
        if not isinstance(values, list) or not any(map(_needs_name, values)):
            return values
        names = [value_name(value) if _needs_name(value) else value for value in values]
        named = {name: _with_none(value) for name, value in zip(names, values, strict=True) if _needs_name(value)}
        for value in values:
            if not _needs_name(value) and value in named:
                raise ValueError(
                    f"the axis {axis} has the text {value!r} and a value of that name; name each value, such as "
                    f'{axis} = {{ values = {{ first = "{value}", second = … }} }}'
                )
        self.named[axis] = named
        return names

    def _named(self, axis: str, values: Mapping[str, Any]) -> dict[str, Any]:
        for name, value in values.items():
            if not _needs_name(value) and not _is_plain(value):
                raise ValueError(
                    f"the axis {axis}: the value of {name!r} = {printable(value)} cannot be stored; write a finite "
                    'number, a text, true or false, a list or table of them, or "null" for Python\'s None'
                )
        return {name: _with_none(value) for name, value in values.items()}


def _read_when(axis: str, when: Any) -> Mapping[str, Any]:
    if not isinstance(when, Mapping) or not when:
        raise ValueError(f'the axis {axis}: when = {printable(when)}: write when = {{ model = "gpt" }}')
    return when


def value_name(value: Any) -> str:
    """The name of a value in a list that gives none."""
    return "none" if value is None else compact_json(_with_none(value))


def _is_plain(value: Any) -> bool:
    """Whether Optuna takes it as a choice that can be found again."""
    return isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))


def _needs_name(value: Any) -> bool:
    """Whether it is a value for an objective that is no choice for Optuna."""
    return value is None or (isinstance(value, (list, tuple, Mapping)) and _is_json(value))


def _is_json(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_json(each) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_json, value))
    return value is None or _is_plain(value)


def _with_none(value: Any) -> Any:
    """A value with None where `NULL` stands for it, at any depth."""
    if isinstance(value, Mapping):
        return {key: _with_none(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_none(each) for each in value]
    return None if value == NULL else value


def null_spelled(value: Any) -> Any:
    """A value of a table of values by name as a study file writes it: the reverse of what reading does."""
    if isinstance(value, Mapping):
        return {key: null_spelled(each) for key, each in value.items()}
    if isinstance(value, list):
        return [null_spelled(each) for each in value]
    return NULL if value is None else value


def without_none(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a study file as TOML can write it: with names in place of None."""
    written = dict(content)
    for key in ("grid", "axes"):
        if isinstance(content.get(key), Mapping):
            written[key] = {axis: _axis_without_none(value) for axis, value in content[key].items()}
    for key, change in (("exclude", _condition_without_none), ("enqueue", _cell_without_none)):
        if isinstance(content.get(key), list):
            written[key] = [change(entry) if isinstance(entry, Mapping) else entry for entry in content[key]]
    return written


def _axis_without_none(value: Any) -> Any:
    if null_spelled(value) == value:
        return value
    table = dict(value) if isinstance(value, Mapping) else {"values": value}
    values = table.get("values")
    values = [values] if values is None else values
    if isinstance(values, list):
        names = [_name_of_none(each) for each in values]
        named = {name: null_spelled(each) for name, each in zip(names, values, strict=True) if name != each}
        table |= {"values": names, "named": {**table.get("named", {}), **named}}
    when = {"when": _condition_without_none(table["when"])} if "when" in table else {}
    return {**null_spelled(table), **when}


def _name_of_none(value: Any) -> Any:
    """The name of a value that is None or has it inside; any other value unchanged."""
    return value if null_spelled(value) == value else value_name(value)


def _cell_without_none(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {axis: _name_of_none(value) for axis, value in cell.items()}


def _condition_without_none(condition: Mapping[str, Any]) -> dict[str, Any]:
    return {
        axis: list(map(_name_of_none, values)) if isinstance(values, list) else _name_of_none(values)
        for axis, values in condition.items()
    }
