"""Numbered slots: trials of the queue whose cell a sampler chooses when the first worker claims them.

A slot has one trial per repetition. One transaction gives all of them the same cell, each with its own seed. After that
they are ordinary trials: if a worker crashes, its trial resumes with the same parameters, seed and checkpoint. A worker
that crashes between asking the sampler and storing the choice has changed nothing.
"""

from __future__ import annotations

import json
from typing import Any

from search.storage.values import canonical, compact_json

# No axis can have these names: they are not identifiers.
SLOT = "@slot"
REPETITION = "@repetition"


def slot_text(slot: int, repetition: int, seed: int) -> str:
    """The column `cell` of a slot's trial that has no cell yet."""
    return compact_json({SLOT: slot, REPETITION: repetition, "seed": seed})


def identity(text: str) -> str:
    """The trial's identity in its study: cell and seed, or slot and repetition, whether filled or not.

    Args:
        text: The column `cell`; 1 and 1.0 in it give the same identity.
    """
    named = json.loads(text)
    return canonical({SLOT: named[SLOT], REPETITION: named[REPETITION]} if SLOT in named else named)


def parameters_of(text: str) -> dict[str, Any]:
    """A trial's cell with its seed; the seed alone until its slot is filled."""
    return {name: value for name, value in json.loads(text).items() if name not in (SLOT, REPETITION)}


def cell_and_seed(text: str) -> tuple[dict[str, Any], int]:
    """A trial's cell, empty until its slot is filled, and its seed."""
    cell = parameters_of(text)
    return cell, cell.pop("seed")


def slot_of(text: str) -> int:
    """The slot of a trial; 0 for a trial of a grid.

    Args:
        text: The column `cell`.
    """
    return int(json.loads(text).get(SLOT, 0))


def is_empty_slot(text: str) -> bool:
    """Whether a trial has no cell: none was chosen yet, or its objective suggests its parameters.

    Args:
        text: The column `cell`.
    """
    return SLOT in text and set(json.loads(text)) == {SLOT, REPETITION, "seed"}
