"""Draws runs to replay from measured curves: which seed is which repetition, and the order of the cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from benchmarks.pruning.curves import Curves
from benchmarks.pruning.replay import Ints, Queues

Order = Literal["grid", "cheapest", "dearest", "promising", "spread", "shuffled"]
ORDERS: tuple[str, ...] = get_args(Order)

# A plausible order without any results: long contexts first, and among them narrow cells, which train fast.
_PROMISING = (("block_size", -1.0), ("n_embd", 1.0))


def draw_queues(
    curves: Curves, draws: int, repetitions: int, order: Order, *, seed: int = 0, together: bool = False
) -> Queues:
    """Draw `draws` runs of the study with `repetitions` trials a cell.

    Each cell draws from its own seeds, independently and without repetition: across seeds, the measured losses of two
    cells are nearly uncorrelated (`python -m benchmarks.pruning` prints the correlation).

    Args:
        order: The order of the cells in the queue; the second repetition follows the complete first.
        seed: The seed of the draws.
        together: Whether all cells draw the same seeds, as in a real run; with K seeds there are only K such runs.
            Every cell must have every seed.

    Returns:
        Queues of `draws` rows.
    """
    rng = np.random.default_rng(seed)
    cells, seeds = curves.seconds.shape
    shuffled = np.where(curves.measured, rng.random((draws, 1 if together else cells, seeds)), np.inf)
    chosen = shuffled.argsort(axis=2)[:, :, :repetitions]
    places = cell_order(curves, order, draws, rng)
    queued = np.tile(places, (1, repetitions))
    repetition = np.repeat(np.arange(repetitions), cells)
    which = chosen[np.arange(draws)[:, None], queued, repetition[None]]
    return Queues(curves.val_loss[queued, which], curves.seconds[queued, which], queued, curves.steps)


def cell_order(curves: Curves, order: Order, draws: int, rng: np.random.Generator) -> Ints:
    """The order of the cells in the queue (draws, C), as indices into `curves`; only "shuffled" differs by draw."""
    if order == "shuffled":
        return rng.permuted(np.tile(np.arange(len(curves.cells)), (draws, 1)), axis=1)
    ordered: dict[str, Callable[[], Ints]] = {
        "grid": lambda: np.arange(len(curves.cells)),
        "cheapest": lambda: np.argsort(curves.seconds.mean(1), kind="stable"),
        "dearest": lambda: np.argsort(-curves.seconds.mean(1), kind="stable"),
        "promising": lambda: _promising(curves),
        "spread": lambda: _spread(curves),
    }
    return np.tile(ordered[order](), (draws, 1))


def _promising(curves: Curves) -> Ints:
    keys = [tuple(sign * float(cell[axis]) for axis, sign in _PROMISING) for cell in curves.cells]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__))


def _spread(curves: Curves) -> Ints:
    """Each cell is as far as possible from all earlier ones; the first is the grid's first."""
    points = _coordinates(curves)
    order = [0]
    distance = np.abs(points - points[0]).sum(1)
    while len(order) < len(points):
        distance[order] = -1.0
        order.append(int(distance.argmax()))
        distance = np.minimum(distance, np.abs(points - points[order[-1]]).sum(1))
    return np.array(order)


def _coordinates(curves: Curves) -> npt.NDArray[np.float64]:
    """The position of each cell in the grid (C, axes), every axis from 0 to 1."""
    columns = []
    for axis in curves.cells[0]:
        values = list(dict.fromkeys(cell[axis] for cell in curves.cells))
        columns.append([values.index(cell[axis]) / max(1, len(values) - 1) for cell in curves.cells])
    return np.array(columns).T
