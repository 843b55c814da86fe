"""The search space of a study: which axes a cell has, which cells are excluded, and all cells of a grid."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from search.storage.texts import printable
from search.storage.values import canonical
from search.study.claims import Cell, Scalar
from search.study.formatting import values_text
from search.study.search_space import Range
from search.study.validation_messages import did_you_mean

# Values of axes, all of which must hold: an axis has one of the values.
Condition = Mapping[str, Sequence[Scalar]]

# Expanding a larger grid would take minutes and gigabytes.
MAX_POINTS = 1_000_000
# More are a list for [grid].
MAX_ENQUEUED = 400


@dataclass(frozen=True)
class Space:
    """The axes of a study.

    Attributes:
        lists: The axes that are lists.
        ranges: The axes that are ranges.
        when: The conditions of axes; a cell has such an axis only where its condition holds.
        exclude: Cells that meet one of these conditions are not trained.
    """

    lists: Mapping[str, Sequence[Scalar]]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    when: Mapping[str, Condition] = field(default_factory=dict)
    exclude: Sequence[Condition] = ()

    @property
    def names(self) -> list[str]:
        """All axes, lists first."""
        return [*self.lists, *self.ranges]

    @cached_property
    def order(self) -> list[str]:
        """The axes, each after those that its condition names, otherwise as in `names`.

        Raises:
            ValueError: Conditions depend on each other in a circle.
        """
        placed: dict[str, None] = {}
        left = self.names
        while left:
            ready = [axis for axis in left if all(other in placed for other in self.when.get(axis, {}))]
            if not ready:
                raise ValueError(
                    f"the axes {', '.join(left)} have conditions that depend on each other in a circle; remove one when"
                )
            # One at a time, so that an axis without a condition keeps its place.
            placed[ready[0]] = None
            left.remove(ready[0])
        return list(placed)

    @cached_property
    def _when(self) -> Mapping[str, Mapping[str, frozenset[str]]]:
        return {axis: _keys(condition) for axis, condition in self.when.items()}

    @cached_property
    def _exclude(self) -> Sequence[Mapping[str, frozenset[str]]]:
        return [_keys(condition) for condition in self.exclude]

    def applies(self, axis: str, cell: Mapping[str, Any]) -> bool:
        """Whether a cell with these values has an axis."""
        return axis not in self._when or _holds(self._when[axis], cell)

    def is_excluded(self, cell: Mapping[str, Any]) -> bool:
        """Whether a cell is not to be trained."""
        return any(_holds(condition, cell) for condition in self._exclude)

    def where(self, axis: str) -> str:
        """The condition of an axis for a reader, such as " where model = gpt"; "" without one."""
        return f" where {condition_text(self.when[axis])}" if axis in self.when else ""

    def restricted(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the axes that apply, in the order of `values`."""
        cell: dict[str, Any] = {}
        for axis in self.order:
            if axis in values and self.applies(axis, cell):
                cell[axis] = values[axis]
        return {axis: value for axis, value in values.items() if axis in cell}

    def cells(self) -> list[Cell]:
        """Every cell of the lists, each once; the last axis varies fastest.

        Raises:
            ValueError: There are more than `MAX_POINTS`, or none.
        """
        order = [axis for axis in self.order if axis in self.lists]
        cells: list[Cell] = [{}]
        for axis in order:
            cells = [wider for cell in cells for wider in self._with(axis, cell) if not self.is_excluded(wider)]
            if len(cells) > MAX_POINTS:
                raise ValueError(f"the grid has more than {MAX_POINTS} cells; give fewer values, or a sampler")
        if not cells:
            raise ValueError("exclude leaves no cell; remove an entry of it")
        if order == list(self.lists):
            return cells
        place = {axis: {canonical(v): i for i, v in enumerate(values, 1)} for axis, values in self.lists.items()}
        cells.sort(key=lambda cell: [place[axis][canonical(cell[axis])] if axis in cell else 0 for axis in place])
        return [{axis: cell[axis] for axis in self.lists if axis in cell} for cell in cells]

    def cells_and(self, others: Sequence[Cell]) -> list[Cell]:
        """Every cell of the lists, then those of `others` that are not among them."""
        cells = self.cells()
        known = set(map(canonical, cells)) if others else set()
        return [*cells, *(cell for cell in others if canonical(cell) not in known)]

    def _with(self, axis: str, cell: Cell) -> Iterable[Cell]:
        return [{**cell, axis: value} for value in self.lists[axis]] if self.applies(axis, cell) else [cell]

    def completed(self, cell: Mapping[str, Any]) -> Cell:
        """A cell with the values of the axes that have only one, in the order of `names`."""
        found: Cell = {}
        for axis in self.order:
            if axis in cell:
                found[axis] = cell[axis]
            elif len(self.lists.get(axis, ())) == 1 and self.applies(axis, found):
                found[axis] = self.lists[axis][0]
        return {**{axis: found[axis] for axis in self.names if axis in found}, **cell}

    def edge_cells(self, lasts: Mapping[str, int | float]) -> Iterator[Cell]:
        """Cells that a sampler might choose; together they have every listed value and both ends of every range.

        Args:
            lasts: The highest value that each range reaches.
        """
        ends = {axis: [each.low, lasts[axis]] for axis, each in self.ranges.items()}
        values: dict[str, Sequence[Scalar]] = {**self.lists, **ends}
        first: Cell = {axis: each[0] for axis, each in values.items()}
        others = ({**first, **self._needed(axis), axis: value} for axis, each in values.items() for value in each)
        seen = set()
        for candidate in itertools.chain([first], others):
            cell = self.restricted(candidate)
            if canonical(cell) not in seen and not self.is_excluded(cell):
                seen.add(canonical(cell))
                yield cell

    def _needed(self, axis: str) -> Cell:
        """Values of other axes with which a cell has an axis."""
        found: Cell = {}
        for other, values in self.when.get(axis, {}).items():
            found |= {**self._needed(other), other: values[0]}
        return found

    def fault_of(self, cell: Mapping[str, Any], fixed: Collection[str] | None = None) -> str | None:
        """What is wrong with a cell, in a few words that begin with its axis; None if it belongs to the space.

        Args:
            fixed: The axes whose values must be in their list or range; by default all axes.
        """
        for axis, value in cell.items():
            if axis not in self.lists and axis not in self.ranges:
                return f"{axis} is not an axis{did_you_mean(axis, self.names)}; axes: {', '.join(self.names)}"
            if not self.applies(axis, cell):
                return f"{axis} does not apply: it needs {condition_text(self.when[axis])}"
            if (fixed is None or axis in fixed) and (fault := self.value_fault(axis, value)):
                return fault
        for axis in self.names:
            if axis not in cell and self.applies(axis, cell):
                return f"{axis} is missing"
        return None

    def value_fault(self, axis: str, value: Any) -> str | None:
        """What is wrong with a value of an axis; None if the axis has it."""
        if axis in self.lists:
            if canonical(value) in set(map(canonical, self.lists[axis])):
                return None
            return f"{axis} = {printable(repr(value))} is not one of its values: {values_text(self.lists[axis])}"
        bounds = self.ranges[axis]
        if bounds.has(value):
            return None
        step = "" if bounds.step is None else f" in steps of {bounds.step}"
        return f"{axis} = {printable(repr(value))} is outside its range, {bounds.low} to {bounds.high}{step}"


def _keys(condition: Condition) -> dict[str, frozenset[str]]:
    return {axis: frozenset(map(canonical, values)) for axis, values in condition.items()}


def _holds(condition: Mapping[str, frozenset[str]], cell: Mapping[str, Any]) -> bool:
    return all(axis in cell and canonical(cell[axis]) in values for axis, values in condition.items())


def condition_text(condition: Condition) -> str:
    """A condition in a few words."""
    return " and ".join(f"{axis} = {' or '.join(map(printable, values))}" for axis, values in condition.items())


def check_axes_named(space: Space) -> None:
    """Check that conditions and excluded cells name axes of the study, and that conditions are no circle.

    Raises:
        ValueError: They do not.
    """
    conditions = [(f"the axis {axis}: when", condition) for axis, condition in space.when.items()]
    conditions += [(f"exclude.{index}", condition) for index, condition in enumerate(space.exclude)]
    for at, condition in conditions:
        if not condition:
            raise ValueError(f"{at} is empty; write the values of one or more axes")
        for axis, values in condition.items():
            if axis not in space.names:
                choices = ", ".join(space.names)
                raise ValueError(f"{at}.{axis} is not an axis{did_you_mean(axis, space.names)}; choices: {choices}")
            if not values:
                raise ValueError(f"{at}.{axis} is empty; give it at least one value")
    _ = space.order  # it finds a circle; an objective that suggests its parameters has no axes


def check_values_exist(space: Space) -> None:
    """Check that conditions and excluded cells name values that their axes have.

    Raises:
        ValueError: They do not.
    """
    conditions = [(f"the axis {axis}: when", condition) for axis, condition in space.when.items()]
    conditions += [(f"exclude.{index}", condition) for index, condition in enumerate(space.exclude)]
    for at, condition in conditions:
        for axis, values in condition.items():
            if axis in space.ranges and not space.ranges[axis].is_integer:
                raise ValueError(
                    f"{at}.{axis}: {axis} is a range of real numbers; a condition needs a list or integers"
                )
            for value in values:
                if fault := space.value_fault(axis, value):
                    raise ValueError(f"{at}: {fault}")


def check_enqueued(space: Space, cells: Sequence[Cell], fixed: Collection[str]) -> None:
    """Check the cells of `enqueue`.

    Args:
        fixed: As for `Space.fault_of`.

    Raises:
        ValueError: One is no cell of the study, or occurs twice, or there are more than `MAX_ENQUEUED`.
    """
    if len(cells) > MAX_ENQUEUED:
        raise ValueError(f"enqueue has {len(cells)} cells; at most {MAX_ENQUEUED} are allowed")
    seen = set()
    for index, cell in enumerate(cells):
        completed = space.completed(cell)
        if fault := space.fault_of(completed, fixed):
            raise ValueError(f"enqueue.{index} = {printable(cell)}: {fault}")
        if canonical(completed) in seen:
            raise ValueError(f"enqueue.{index} = {printable(cell)} occurs twice; remove one")
        seen.add(canonical(completed))
