"""TPE that reads each trial once: the same choices as Optuna's."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.strategies.samplers import make_sampler
from search.strategies.shared_knowledge import SharedKnowledge
from search.strategies.shown_trials import ShownTrials
from search.strategies.tpe import EndedTrials, TPESampler
from search.study.search_space import SamplerSettings

SPACE: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-5, 1.0, log=True),
    "share": FloatDistribution(0.0, 1.0, step=0.125),
    "width": IntDistribution(8, 512, log=True),
    "layers": IntDistribution(1, 4),
    "kind": CategoricalDistribution(["a", "b", 3, None]),
}
MINIMIZE = StudyDirection.MINIMIZE


def drawn(draw: random.Random, states: Mapping[TrialState, int], lacking: float = 0.0, **further: Any) -> FrozenTrial:
    """A trial of a study; some lack parameters."""
    state = draw.choices(list(states), list(states.values()))[0]
    axes = {name: kind for name, kind in SPACE.items() if draw.random() >= lacking}
    sampler, study = optuna.samplers.RandomSampler(seed=draw.randrange(2**32)), optuna.create_study()
    params = {name: sampler.sample_independent(study, None, name, kind) for name, kind in axes.items()}  # type: ignore[arg-type]
    curve = {step: draw.random() for step in range(draw.randrange(4))} if state == TrialState.PRUNED else {}
    # Many are equal, and a value may be infinite.
    value = draw.choice([0.0, 1.0, 2.5, draw.random(), float("inf"), -float("inf")])
    made = value if state == TrialState.COMPLETE else curve.get(max(curve, default=0))
    return create_trial(
        state=state, value=made, params=params, distributions=axes, intermediate_values=curve, **further
    )


def choice(
    sampler: optuna.samplers.BaseSampler, trials: list[FrozenTrial], direction: StudyDirection = MINIMIZE
) -> dict[str, Any]:
    storage = ShownTrials()
    study = optuna.create_study(storage=storage, sampler=sampler, direction=direction)
    storage.show(study._study_id, trials)
    return study.ask(SPACE).params


SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "each parameter alone": {"multivariate": False},
    "not of running trials": {"constant_liar": False},
    "groups": {"group": True, "multivariate": True},
    "other numbers": {"n_startup_trials": 3, "n_ei_candidates": 5, "gamma": lambda n: min(n, 40)},
    "another prior": {"prior_weight": 0.3, "consider_endpoints": True, "consider_magic_clip": False},
}
MIXED = {TrialState.COMPLETE: 6, TrialState.PRUNED: 2, TrialState.RUNNING: 2, TrialState.FAIL: 1}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("direction", [MINIMIZE, StudyDirection.MAXIMIZE])
@pytest.mark.parametrize("lacking", [0.0, 0.2])
@pytest.mark.parametrize("settings", SETTINGS)
def test_same_choices_as_optunas(settings: str, lacking: float, direction: StudyDirection) -> None:
    draw, known, trials = random.Random(f"{settings}{lacking}{direction.name}"), SharedKnowledge(), list[FrozenTrial]()
    read = 0
    for seed in range(120):
        trials.append(drawn(draw, MIXED, lacking))
        if draw.random() < 0.2:
            # A trial ends: it has the same number, and is another object.
            at = draw.randrange(len(trials))
            trials[at] = drawn(draw, {TrialState.COMPLETE: 1}, lacking)
        if draw.random() < 0.05:
            trials.pop(draw.randrange(len(trials)))
        arguments = SETTINGS[settings] | {"seed": seed}
        ours = TPESampler(**arguments)
        expected = choice(optuna.samplers.TPESampler(**arguments), trials, direction)
        assert choice(known.share(ours), trials, direction) == expected
        assert ours.ended is not None
        read = max(read, len(ours.ended.losses))
    assert read > 60  # it was by these that it chose


def test_same_choices_where_most_are_pruned() -> None:
    draw, known, trials = random.Random(3), SharedKnowledge(), list[FrozenTrial]()
    for seed in range(60):
        trials.append(drawn(draw, {TrialState.COMPLETE: 1, TrialState.PRUNED: 20}))
        expected = choice(optuna.samplers.TPESampler(seed=seed), trials)
        assert choice(known.share(TPESampler(seed=seed)), trials) == expected


def test_same_choices_with_constraints() -> None:
    draw, known, trials = random.Random(4), SharedKnowledge(), list[FrozenTrial]()
    for seed in range(80):
        made = drawn(draw, MIXED)
        if seed > 30:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made.set_constraint("memory", draw.uniform(-1, 1))
        trials.append(made)
        expected = choice(optuna.samplers.TPESampler(seed=seed), trials)
        assert choice(known.share(TPESampler(seed=seed)), trials) == expected


def test_what_an_earlier_attempt_of_the_trial_chose_is_no_history() -> None:
    draw, numbers = random.Random(6), {name: kind for name, kind in SPACE.items() if name != "kind"}
    trials = [drawn(draw, {TrialState.COMPLETE: 1}) for _ in range(30)]
    chosen = json.dumps({name: trials[0].params[name] for name in numbers})
    running = drawn(draw, {TrialState.RUNNING: 1}, 1.0, system_attrs={"tpe:relative_params:0": chosen})
    other, found = drawn(draw, {TrialState.RUNNING: 1}, 1.0), []
    for sampler in (optuna.samplers.TPESampler(seed=0), SharedKnowledge().share(TPESampler(seed=0))):
        for own in (other, running):
            storage = ShownTrials()
            study = optuna.create_study(storage=storage, sampler=sampler)
            storage.show(study._study_id, [*trials, running, other])
            sampler._rng.rng.seed(1)  # type: ignore[attr-defined]
            found.append(sampler.sample_relative(study, own, numbers))
    assert found[:2] == found[2:]
    assert found[0] != found[1]


def test_same_choices_with_several_objectives() -> None:
    known, at_once = SharedKnowledge(), [optuna.create_study(directions=["minimize", "maximize"]) for _ in range(2)]
    for seed in range(40):
        samplers = [optuna.samplers.TPESampler(seed=seed), known.share(TPESampler(seed=seed))]
        chosen = []
        for study, sampler in zip(at_once, samplers, strict=True):
            study.sampler = sampler
            trial = study.ask(SPACE)
            chosen.append(trial.params)
            study.tell(trial, [trial.params["rate"], trial.params["width"]])
        assert chosen[0] == chosen[1]


def test_values_that_were_added_to_an_axis() -> None:
    few, more = CategoricalDistribution(["a", "b"]), CategoricalDistribution(["b", "c", "a"])
    ended = EndedTrials()
    rows = ended.read([create_trial(value=0.0, params={"kind": name}, distributions={"kind": few}) for name in "ab"])
    assert ended.column("kind", few)[rows].tolist() == [0.0, 1.0]
    assert ended.column("kind", more)[rows].tolist() == [2.0, 0.0]


def test_each_trial_is_read_once() -> None:
    class Counted(FloatDistribution):
        reads = 0

        def to_internal_repr(self, param_value_in_external_repr: Any) -> float:
            Counted.reads += 1
            return super().to_internal_repr(param_value_in_external_repr)

    kind = Counted(0.0, 1.0)
    trials = [create_trial(value=1.0, params={"x": 0.5}, distributions={"x": kind}) for _ in range(50)]
    known, counts = SharedKnowledge(), []
    for seed in range(3):
        storage, before = ShownTrials(), Counted.reads
        study = optuna.create_study(storage=storage, sampler=known.share(TPESampler(seed=seed)))
        storage.show(study._study_id, trials)
        study.ask({"x": kind})
        counts.append(Counted.reads - before)
        trials.append(create_trial(value=1.0, params={"x": 0.5}, distributions={"x": kind}))
    assert counts[1] == counts[2] <= 4 < 50 <= counts[0]


@pytest.mark.parametrize("name", ["tpe", "TPESampler"])
def test_it_is_what_a_study_gets(name: str) -> None:
    assert type(make_sampler(SamplerSettings(name=name), 1)) is TPESampler
