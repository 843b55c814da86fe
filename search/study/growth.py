"""Whether a planned study can continue with another definition: values may join, and none that was trained may go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search.storage.growth import TrialCell
from search.storage.planning import DefinitionChanged
from search.storage.texts import printable
from search.storage.values import canonical
from search.study.cells import objective_values
from search.study.claims import Cell
from search.study.stored import StoredDefinition, parse_definition

# The keys of a definition that may change as long as every trial is still a trial of the study.
GROWING = ("grid", "axes", "when", "named", "exclude", "enqueue")
_STEP = "keep it, or choose another name with --name"


def merged_enqueue(stored: Mapping[str, Any], wanted: Sequence[Cell]) -> list[Cell]:
    """The cells that were enqueued ever, so that one need not stay in the study file once it is planned."""
    before = parse_definition(stored).enqueue
    known = set(map(canonical, before))
    return [*before, *(cell for cell in wanted if canonical(cell) not in known)]


def cells_that_go(
    study: str, stored: Mapping[str, Any], wanted: Mapping[str, Any], trials: Sequence[TrialCell]
) -> list[Cell]:
    """The cells of a planned study that another definition does not have.

    Args:
        wanted: The other definition.
        trials: The trials that the study has.

    Raises:
        DefinitionChanged: More differs than the search space, or a trial that was begun is of such a cell.
    """
    if any(canonical(stored.get(key)) != canonical(wanted.get(key)) for key in {*stored, *wanted} - {*GROWING}):
        raise DefinitionChanged(study, stored, wanted)
    before, after = parse_definition(stored), parse_definition(wanted)
    if fault := _changed_kind(before, after) or _changed_value(before, after):
        raise DefinitionChanged(study, stored, wanted, fault)
    # Enqueued cells of a grid may have other values than its lists; a sampler's distributions do not have those.
    enqueued = set(map(canonical, after.enqueue)) if after.sampler is None else set()
    gone: dict[str, Cell] = {}
    for trial in trials:
        cell = dict(trial.cell)
        if canonical(cell) in enqueued or canonical(cell) in gone:
            continue
        fault = after.space.fault_of(cell)
        if fault is None and after.sampler is None and after.space.is_excluded(cell):
            fault = f"{next(iter(cell))} and others have excluded values"
        if fault is None:
            continue
        if trial.was_claimed or after.sampler is not None:
            raise DefinitionChanged(study, stored, wanted, _reason(fault, cell, before, after))
        gone[canonical(cell)] = cell
    return _unclaimed(gone, trials, study, stored, wanted)


def _unclaimed(
    gone: Mapping[str, Cell],
    trials: Sequence[TrialCell],
    study: str,
    stored: Mapping[str, Any],
    wanted: Mapping[str, Any],
) -> list[Cell]:
    """The cells of `gone`, none of whose trials was claimed."""
    for trial in trials:
        if trial.was_claimed and canonical(trial.cell) in gone:
            reason = f"a trial of {printable(dict(trial.cell))} was trained; {_STEP}"
            raise DefinitionChanged(study, stored, wanted, reason)
    return list(gone.values())


def _reason(fault: str, cell: Cell, before: StoredDefinition, after: StoredDefinition) -> str:
    axis = fault.split()[0]
    if axis in after.space.names and axis not in before.space.names:
        others = [name for name in after.grid if name in before.grid and len(after.grid[name]) > len(before.grid[name])]
        name = others[0] if others else next(iter(before.space.names))
        new = [value for value in after.grid.get(name, ()) if value not in before.grid.get(name, ())]
        value = f'"{new[0]}"' if new and isinstance(new[0], str) else new[0] if new else "…"
        return (
            f"{axis} is a new axis, and the trials so far have no value of it; give it only to new cells, such as "
            f"{axis} = {{ values = […], when = {{ {name} = {value} }} }}, or choose another name with --name"
        )
    if axis in after.space.names and axis in cell and after.space.value_fault(axis, cell[axis]):
        return f"values can be added, not removed, and a trained trial has {axis} = {printable(cell[axis])}; {_STEP}"
    return f"the cells of trained trials must stay as they are, and in one of them {fault}; choose another --name"


def _changed_kind(before: StoredDefinition, after: StoredDefinition) -> str | None:
    for axis in before.axes.keys() & after.axes.keys():
        old, new = before.axes[axis], after.axes[axis]
        if (old.is_integer, old.log) != (new.is_integer, new.log):
            return f"the range {axis} can become wider, but not change between integers, real numbers and log; {_STEP}"
    for axis in (before.axes.keys() & after.grid.keys()) | (before.grid.keys() & after.axes.keys()):
        return f"the axis {axis} cannot change between a list and a range; {_STEP}"
    return None


def _changed_value(before: StoredDefinition, after: StoredDefinition) -> str | None:
    """A name that stood for another value."""
    for axis in before.grid.keys() & after.grid.keys():
        for name in before.grid[axis]:
            old, new = (objective_values({axis: name}, each.named)[axis] for each in (before, after))
            if name in after.grid[axis] and canonical(old) != canonical(new):
                return (
                    f"the value {name!r} of {axis} was {printable(repr(old))}, is {printable(repr(new))}: give the new "
                    f"value a new name"
                )
    return None
