"""Optuna's GP sampler, which begins a fit of its kernel with the result of an earlier trial's.

Optuna's begins with that of its own last choice. Here each trial has a sampler of its own, maybe in another process,
and its choice shall depend on the study and the slot alone, so the result is a note on the trial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna.samplers
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    import torch

# A system attribute: for each objective the inverse squared length scales, the scale of the kernel, and the noise.
FITTED = "gp:fitted"


@dataclass(frozen=True)
class _Kernel:
    """What Optuna reads of the regressor of an earlier choice."""

    inverse_squared_lengthscales: torch.Tensor  # (parameters,)
    kernel_scale: torch.Tensor
    noise_var: torch.Tensor


class GPSampler(optuna.samplers.GPSampler):
    """Optuna's `GPSampler`, whose fits take fewer steps after the first one."""

    _gprs_cache_list: Any

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._gprs_cache_list = _fitted_before(study, trial, len(search_space))
        chosen = super().sample_relative(study, trial, search_space)
        if chosen and self._gprs_cache_list is not None:
            fitted = [
                [*each.inverse_squared_lengthscales.tolist(), each.kernel_scale.item(), each.noise_var.item()]
                for each in self._gprs_cache_list
            ]
            study._storage.set_trial_system_attr(trial._trial_id, FITTED, fitted)
        return chosen


def _fitted_before(study: Study, trial: FrozenTrial, n_parameters: int) -> list[_Kernel] | None:
    """The kernels that the newest trial was chosen with, one for each objective."""
    states = (TrialState.COMPLETE, TrialState.RUNNING)
    for each in reversed(study._get_trials(deepcopy=False, states=states)):
        fitted = each.system_attrs.get(FITTED)
        if each.number == trial.number or fitted is None or len(fitted) != len(study.directions):
            continue
        if all(len(numbers) == n_parameters + 2 for numbers in fitted):
            import torch

            kernels = [torch.tensor(numbers, dtype=torch.float64) for numbers in fitted]
            return [_Kernel(numbers[:-2], numbers[-2], numbers[-1]) for numbers in kernels]
    return None
