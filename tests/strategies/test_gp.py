"""GP with a new sampler for each trial: the choices of one sampler of Optuna's that makes them all."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection

from search.strategies.gp import FITTED, GPSampler
from search.strategies.samplers import make_sampler
from search.study.search_space import SamplerSettings

SPACE: dict[str, BaseDistribution] = {"rate": FloatDistribution(1e-4, 1.0, log=True), "width": IntDistribution(1, 9)}
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.mark.parametrize("n_values", [1, 2])
def test_same_choices_as_one_sampler(n_values: int) -> None:
    directions = [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE][:n_values]
    theirs, ours = (optuna.create_study(directions=directions) for _ in range(2))
    theirs.sampler = one = optuna.samplers.GPSampler(n_startup_trials=5)
    for at in range(12):
        one._rng.rng.seed(at)
        one._independent_sampler._rng.rng.seed(at)  # type: ignore[attr-defined]
        ours.sampler = GPSampler(n_startup_trials=5, seed=at)
        trials = [study.ask(SPACE) for study in (theirs, ours)]
        assert trials[0].params == trials[1].params
        for study, trial in zip((theirs, ours), trials, strict=True):
            rate, width = trial.params["rate"], trial.params["width"]
            study.tell(trial, [(rate - 0.1) ** 2 + width, width - rate][:n_values])
    noted = [len(trial.system_attrs.get(FITTED, ())) for trial in ours.trials]
    assert noted == [0] * 5 + [n_values] * 7


def test_a_fit_begins_where_the_one_before_ended() -> None:
    study = optuna.create_study()
    for at in range(7):
        study.sampler = GPSampler(n_startup_trials=5, seed=at)
        trial = study.ask(SPACE)
        study.tell(trial, trial.params["rate"])
    before = study.trials[-1].system_attrs[FITTED]

    class Begun(GPSampler):
        begun: object = None

        def _sample_relative_impl(self, *arguments: object) -> dict[str, object]:
            [each] = self._gprs_cache_list
            self.begun = [*each.inverse_squared_lengthscales.tolist(), each.kernel_scale.item(), each.noise_var.item()]
            return super()._sample_relative_impl(*arguments)  # type: ignore[arg-type]

    study.sampler = sampler = Begun(n_startup_trials=5, seed=0)
    study.ask(SPACE)
    assert [sampler.begun] == before


def test_another_space_begins_anew() -> None:
    study = optuna.create_study()
    for at in range(7):
        study.sampler = GPSampler(n_startup_trials=2, seed=at)
        space = SPACE if at < 6 else {"rate": SPACE["rate"]}
        trial = study.ask(space)
        study.tell(trial, trial.params["rate"])
    study.sampler = GPSampler(n_startup_trials=2, seed=0)  # now one parameter is common to all trials
    study.ask({"rate": SPACE["rate"]})
    assert len(study.trials[-1].system_attrs[FITTED][0]) == 3


@pytest.mark.parametrize("name", ["gp", "GPSampler"])
def test_it_is_what_a_study_gets(name: str) -> None:
    assert type(make_sampler(SamplerSettings(name=name), 1)) is GPSampler
