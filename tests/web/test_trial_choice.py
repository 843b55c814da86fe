"""What a browser gets of a large study: bounded, with what matters, and unchanged where it does not ask."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from search.statistics.pareto import pareto_front
from search.storage.dashboard_reading import Mark
from search.web import trial_choice
from search.web.trial_choice import Choice, choose


def marks_of(states: Sequence[str]) -> list[Mark]:
    return [Mark(7 + number, number, state, None, None, None, None) for number, state in enumerate(states)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies are large from a few trials on."""
    monkeypatch.setattr(trial_choice, "WHOLE", 10)
    monkeypatch.setattr(trial_choice, "MOST_TRIALS", 50)
    monkeypatch.setattr(trial_choice, "MOST_CURVES", 8)
    monkeypatch.setattr(trial_choice, "_TOGETHER", 16)


def numbers_of(choice: Choice) -> list[int]:
    return [mark.number for mark in choice.trials]


@pytest.mark.parametrize("total", [0, 1, 10])
def test_a_small_study_is_shown_whole(total: int) -> None:
    choice = choose(marks_of(["COMPLETE"] * total), {}, [1])
    assert (len(choice.trials), len(choice.curves), choice.is_all) == (total, total, True)


@pytest.mark.parametrize(("total", "every", "curves_every"), [(11, 1, 2), (50, 1, 8), (51, 2, 8), (1000, 32, 128)])
def test_what_is_left_out_is_said(total: int, every: int, curves_every: int) -> None:
    values = {7 + number: [float(number)] for number in range(total)}
    choice = choose(marks_of(["COMPLETE"] * total), values, [1])
    assert (choice.every, choice.curves_every, choice.is_all) == (every, curves_every, False)
    assert abs(len(choice.trials) - total / every) <= 2
    assert abs(len(choice.curves) - total / curves_every) <= 2
    assert choice.curves <= {mark.trial_id for mark in choice.trials}
    shown = f"all {total:,} trials" if every == 1 else f"{len(choice.trials)} of {total:,} trials: one of {every},"
    assert choice.to_text().startswith(shown)
    assert f"curves of {len(choice.curves)}: one trial of {curves_every}," in choice.to_text()


@pytest.mark.parametrize("levels", [2, 3, 10, 16, 32, 64])
def test_every_value_of_an_axis_is_shown_as_often(levels: int) -> None:
    """The cells of a grid are numbered in order, so that an axis has the same value in every so many trials."""
    total = 100 * 64 * 4
    choice = choose(marks_of(["COMPLETE"] * total), {7: [0.0]}, [1])
    assert choice.every == 512
    found = Counter(number % levels for number in numbers_of(choice))
    if levels <= 10:
        assert min(found.values()) > 0.5 * len(choice.trials) / levels
    assert len(found) > 0.5 * min(levels, len(choice.trials))


@pytest.mark.parametrize("signs", [[1], [-1], [1, -1], [1, 1, -1]])
def test_every_front_is_shown(signs: list[int]) -> None:
    """The best of the first n trials, for any n, and of those that are feasible, whatever ties there are."""
    draws = random.Random(len(signs))
    values = {7 + at: [float(draws.randrange(30)) for _ in signs] for at in range(300)}
    infeasible = {trial_id for trial_id in values if draws.random() < 0.5}
    shown = {mark.trial_id for mark in choose(marks_of(["COMPLETE"] * 300), values, signs, infeasible).trials}
    for first in (40, 160, 300):
        for ids in (range(7, 7 + first), [each for each in range(7, 7 + first) if each not in infeasible]):
            losses = [tuple(sign * value for sign, value in zip(signs, values[each], strict=True)) for each in ids]
            front = {loss for loss, is_best in zip(losses, pareto_front(losses), strict=True) if is_best}
            # Of equal trials the first one is enough.
            assert front <= {loss for loss, each in zip(losses, ids, strict=True) if each in shown}


@pytest.mark.parametrize("seed", range(5))
def test_nothing_changes_before_the_place_from_which_a_page_asks(seed: int) -> None:
    """Trials start and end in any order, also in a study that grows, and the page never has one twice."""
    draws = random.Random(seed)
    states, values, kept = ["WAITING"] * 120, dict[int, list[float]](), list[tuple[int, str]]()
    for step in range(60):
        if step % 20 == 19:
            states += ["WAITING"] * 15
        for _ in range(8):
            at = draws.randrange(len(states))
            states[at] = {"WAITING": "RUNNING", "RUNNING": "COMPLETE"}.get(states[at], states[at])
            if states[at] == "COMPLETE":
                values.setdefault(7 + at, [draws.random()])
        choice = choose(marks_of(states), values, [1])
        after = next((place for place, (_, state) in enumerate(kept) if state != "COMPLETE"), len(kept))
        kept = [*kept[:after], *[(mark.number, mark.state) for mark in choice.trials[after:]]]
        numbers = [number for number, _ in kept]
        assert numbers == sorted(set(numbers))
        assert {number for number, state in enumerate(states) if state == "RUNNING"} <= set(numbers)
        assert all(states[number] == state for number, state in kept)
        if len(states) == 120:
            assert numbers == numbers_of(choice)
