"""The parameters that all trials have: known without comparing a trial twice, and as Optuna would find them."""

from __future__ import annotations

import random

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.search_space import intersection_search_space
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.strategies.samplers import SAMPLERS, make_sampler
from search.strategies.shared_knowledge import SharedKnowledge
from search.strategies.shown_trials import ShownTrials
from search.study.search_space import SamplerSettings

STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)


class Counted(FloatDistribution):
    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return super().__eq__(other)

    __hash__ = FloatDistribution.__hash__


def trial(*names: str, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    value = 1.0 if state == TrialState.COMPLETE else None
    axes: dict[str, BaseDistribution] = {name: Counted(0.0, 1.0) for name in names}
    return create_trial(state=state, value=value, params=dict.fromkeys(names, 0.5), distributions=axes)


def found(spaces: SharedKnowledge, trials: list[FrozenTrial]) -> set[str]:
    """What a new sampler of the next slot learns about."""
    storage = ShownTrials()
    study = optuna.create_study(storage=storage)
    storage.show(study._study_id, trials)
    sampler = spaces.share(TPESampler(seed=0))
    return set(sampler._search_space.calculate(study))  # type: ignore[attr-defined]


def test_as_optuna_finds_them_whatever_changes() -> None:
    draw, spaces, trials, seen = random.Random(5), SharedKnowledge(), list[FrozenTrial](), set[int]()
    for _ in range(200):
        # A slot can be filled before one with a lower number, and a trial can end later, or be deleted.
        names = [name for name in "abc" if draw.random() < 0.97]
        trials.insert(draw.randrange(len(trials) + 1), trial(*names, state=draw.choice(STATES)))
        if draw.random() < 0.3:
            trials.pop(draw.randrange(len(trials)))
        expected = set(intersection_search_space(trials, include_pruned=True))
        assert found(spaces, trials) == expected
        seen.add(len(expected))
    assert seen == {0, 1, 2, 3}


def test_a_trial_is_compared_once() -> None:
    spaces, trials = SharedKnowledge(), [trial("a", "b") for _ in range(50)]
    counts = []
    for _ in range(3):
        before = Counted.compared
        assert found(spaces, trials) == {"a", "b"}
        counts.append(Counted.compared - before)
        trials.append(trial("a", "b"))
    assert counts == [98, 2, 2]


@pytest.mark.parametrize("name", [*SAMPLERS, "CmaEsSampler", "NSGAIISampler"])
def test_optunas_samplers_share_them(name: str) -> None:
    sampler = make_sampler(SamplerSettings(name=name), 1)
    known = [value for value in vars(sampler).values() if type(value) is optuna.search_space.IntersectionSearchSpace]
    assert len(known) == (name != "random")
    spaces = SharedKnowledge()
    spaces.share(sampler)
    assert not any(value in vars(sampler).values() for value in known)
