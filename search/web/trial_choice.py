"""Which trials, and which of their curves, a browser gets of a study that is too large to draw.

A study's page draws every trial several times, and a line for each curve: 10,000 keep a browser busy for minutes.
The page asks for trials from a place on, the first one that had not ended when it last asked, and keeps those before.
So a choice must not change before that place: trials are chosen by their numbers and by what came before them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.storage.dashboard_reading import Mark

# A study of so many trials is shown whole; of a larger one a page gets at most so many trials and curves, and few more.
WHOLE = 1_000
MOST_TRIALS, MOST_CURVES = 10_000, 500
_TOGETHER = 1_000
_GOLDEN = 2_654_435_769  # 2 ** 32 divided by the golden ratio


@dataclass(frozen=True)
class Choice:
    """What is shown of a study.

    Attributes:
        total: How many trials it has.
        trials: Those that are shown, in their order.
        every: One of so many trials is shown, besides others.
        curves: The ids of those that are shown with their curves.
        curves_every: As `every`, for curves.
    """

    total: int
    trials: Sequence[Mark]
    every: int
    curves: frozenset[int]
    curves_every: int

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self.curves_every == 1

    def to_text(self) -> str:
        """What is left out, for readers of the page."""
        rest = "those running, and each that is better than all before it"
        curves = f"curves of {len(self.curves):,}: one trial of {self.curves_every}, {rest}"
        if self.every == 1:
            return f"all {self.total:,} trials; {curves}"
        return f"{len(self.trials):,} of {self.total:,} trials: one of {self.every}, {rest}; {curves}"


def choose(
    marks: Sequence[Mark],
    values: Mapping[int, Sequence[float]],
    signs: Sequence[int],
    infeasible: Collection[int] = (),
) -> Choice:
    """Choose what is shown.

    Args:
        marks: All trials, in their order.
        values: Of the complete trials, by trial_id.
        signs: For each objective 1 if low values are better, else -1.
        infeasible: The ids of the trials that violate a constraint.
    """
    every, curves_every = _apart(len(marks), MOST_TRIALS), _apart(len(marks), MOST_CURVES)
    if len(marks) <= WHOLE:
        return Choice(len(marks), marks, 1, frozenset(mark.trial_id for mark in marks), 1)
    always = {mark.trial_id for mark in marks if mark.state == "RUNNING"}
    # The page's next question is for the trials from this one on.
    always.update(next(([mark.trial_id] for mark in marks if not mark.is_finished), []))
    complete = [mark.trial_id for mark in marks if len(values.get(mark.trial_id, ())) == len(signs)]
    always |= _records(complete, values, signs)
    if infeasible:
        always |= _records([each for each in complete if each not in infeasible], values, signs)
    shown = [mark for mark in marks if mark.trial_id in always or _is_one_of(every, mark.number)]
    curves = {mark.trial_id for mark in shown if mark.trial_id in always or _is_one_of(curves_every, mark.number)}
    return Choice(len(marks), shown, every, frozenset(curves), curves_every)


def _apart(total: int, most: int) -> int:
    """A power of two, so that a growing study rarely changes it, and then keeps some of the trials that it showed."""
    every = 1
    while -(-total // every) > most:
        every *= 2
    return every


def _is_one_of(every: int, number: int) -> bool:
    """Whether a trial is the one of `every` that is shown; then it is for half of `every` too.

    The cells of a grid are numbered in order: every 16th, for example, may have the same value of an axis. Multiples of
    the golden ratio are spread evenly, also those of every n-th number.
    """
    return number * _GOLDEN % 2**32 < 2**32 // every


def _records(trial_ids: Sequence[int], values: Mapping[int, Sequence[float]], signs: Sequence[int]) -> set[int]:
    """The trials that no earlier one is better than: with one objective, those that were the best so far."""
    if not trial_ids:
        return set()
    losses = np.asarray([values[each] for each in trial_ids], dtype=float) * np.asarray(signs, dtype=float)
    found: set[int] = set()
    front = losses[:0]
    for start in range(0, len(losses), _TOGETHER):
        part = losses[start : start + _TOGETHER]
        # Most trials are worse than the front so far, and are seen together.
        for place in np.flatnonzero(~_is_dominated(part, front)):
            loss = part[place : place + 1]
            if not _is_dominated(loss, front)[0]:
                found.add(trial_ids[start + int(place)])
                front = np.concatenate([front[~_is_dominated(front, loss)], loss])
    return found


def _is_dominated(losses: npt.NDArray[np.float64], front: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether each loss (n, d) is at least as bad as one of the front (k, d) in every objective."""
    if not len(front):
        return np.zeros(len(losses), dtype=bool)
    is_worse: npt.NDArray[np.bool_] = np.any(np.all(losses[:, None, :] >= front[None, :, :], axis=2), axis=1)
    return is_worse
