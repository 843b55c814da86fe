"""Optimizer steps of a `FlatStack`: few kernels, with the settings of every member and step as inputs.

What differs between members and steps (learning rate, weight decay, bias correction) is computed on the host in
advance and passed in, a column for each number. A member whose columns say "off" keeps its weights and its state: one
that has left the stack, or one that waits for the others at the end of a replay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from search.models.flat_stack import FlatStack
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.schedule import is_constant, rate_factor
from search.objectives.language_model.settings import LanguageModelSettings

# The arguments of an optimizer that a stack understands; runs with others train alone.
UNDERSTOOD = {"adamw": {"eps"}, "sgd": {"nesterov"}}


def is_understood(settings: LanguageModelSettings) -> bool:
    """Whether the optimizer of a run can be one of these."""
    return set(settings.optimizer_args) <= UNDERSTOOD.get(settings.optimizer, set())


class FlatOptimizer(Protocol):
    """Takes the steps of a stack with E members of P weights.

    The state of each run's own optimizer becomes slices of this one's, so that a checkpoint finds it there.

    Attributes:
        columns: How many numbers a member has for a step.
    """

    columns: int

    def inputs(self, is_on: Tensor, rates: Tensor) -> Tensor:
        """The numbers of the next steps.

        Args:
            is_on: Which members take which step, (K, E) bool on the CPU.
            rates: The learning rates, (K, E) float64 on the CPU.

        Returns:
            (K, E, columns) float32 on the CPU.
        """
        ...

    def step(self, gradient: Tensor, inputs: Tensor) -> None:
        """Take one step; gradient (E, P) and inputs (E, columns), both float32 on the device."""
        ...

    def count(self, steps: Sequence[int]) -> None:
        """Count the steps that each member has taken, for the next `inputs` and for checkpoints."""
        ...


def make_flat_optimizer(stack: FlatStack, runs: Sequence[LanguageModelRun]) -> FlatOptimizer:
    """The optimizer of a stack.

    Args:
        stack: Its members are the models of the runs.
        runs: All with the same optimizer and optimizer_args.
    """
    kinds: dict[str, Callable[..., FlatOptimizer]] = {"adamw": FlatAdamW, "sgd": FlatSGD}
    return kinds[runs[0].settings.optimizer](stack, runs)


def learning_rates(runs: Sequence[LanguageModelRun], steps: int) -> Tensor:
    """The learning rates of the next steps of each run, (steps, E) float64."""
    rates = torch.empty(steps, len(runs), dtype=torch.float64)
    for e, run in enumerate(runs):
        settings = run.settings
        if is_constant(settings):
            rates[:, e] = settings.learning_rate
        else:
            factors = [rate_factor(min(run.step + k, settings.max_iters), settings) for k in range(steps)]
            rates[:, e] = settings.learning_rate * torch.tensor(factors, dtype=torch.float64)
    return rates


class FlatAdamW:
    """AdamW (arXiv:1711.05101), as `torch.optim.AdamW` computes it."""

    columns = 5

    def __init__(self, stack: FlatStack, runs: Sequence[LanguageModelRun]) -> None:
        self._weights = stack.weights.detach()
        self._mean, self._square = torch.zeros_like(self._weights), torch.zeros_like(self._weights)
        self._steps = torch.zeros(len(runs), dtype=torch.float32)  # (E,) on the CPU
        self._decays = _column(run.settings.weight_decay for run in runs)
        self._beta1, self._beta2 = (_column(run.settings.betas[i] for run in runs) for i in (0, 1))
        self._eps = float(runs[0].settings.optimizer_args.get("eps", 1e-8))
        states = {"exp_avg": self._mean, "exp_avg_sq": self._square}
        _share(stack, runs, states)
        for run, steps in zip(runs, self._steps, strict=True):
            for state in run.optimizer.state.values():
                steps.fill_(state.get("step", 0.0))
                state["step"] = steps

    def inputs(self, is_on: Tensor, rates: Tensor) -> Tensor:
        """As `FlatOptimizer.inputs`."""
        taken = self._steps.double() + is_on.cumsum(dim=0)  # (K, E), the step itself included
        columns = (
            torch.where(is_on, 1 - rates * self._decays, 1.0),  # what weight decay leaves
            torch.where(is_on, 1 - self._beta1, 0.0),
            torch.where(is_on, 1 - self._beta2, 0.0),
            torch.where(is_on, rates / (1 - self._beta1**taken), 0.0),
            torch.where(is_on, (1 - self._beta2**taken).sqrt(), 1.0),
        )
        return torch.stack(columns, dim=-1).float()

    def step(self, gradient: Tensor, inputs: Tensor) -> None:
        """As `FlatOptimizer.step`."""
        kept, to_mean, to_square, size, correction = inputs.unsqueeze(-1).unbind(1)  # (E, 1) each
        self._mean.lerp_(gradient, to_mean)
        self._square.lerp_(gradient.square(), to_square)
        divisor = self._square.sqrt().div_(correction).add_(self._eps)
        self._weights.mul_(kept).addcdiv_(self._mean * size, divisor, value=-1)

    def count(self, steps: Sequence[int]) -> None:
        """As `FlatOptimizer.count`."""
        self._steps += torch.tensor(steps)


class FlatSGD:
    """Stochastic gradient descent, as `torch.optim.SGD` computes it."""

    columns = 4

    def __init__(self, stack: FlatStack, runs: Sequence[LanguageModelRun]) -> None:
        self._weights = stack.weights.detach()
        self._buffer = torch.zeros_like(self._weights)
        self._decays = _column(run.settings.weight_decay for run in runs)
        self._momenta = _column(run.settings.momentum for run in runs)
        self._is_nesterov = bool(runs[0].settings.optimizer_args.get("nesterov", False))
        if any(run.settings.momentum for run in runs):
            _share(stack, runs, {"momentum_buffer": self._buffer})

    def inputs(self, is_on: Tensor, rates: Tensor) -> Tensor:
        """As `FlatOptimizer.inputs`."""
        columns = (
            torch.where(is_on, rates, 0.0),
            self._decays.expand_as(rates),
            self._momenta.expand_as(rates),
            is_on.double(),
        )
        return torch.stack(columns, dim=-1).float()

    def step(self, gradient: Tensor, inputs: Tensor) -> None:
        """As `FlatOptimizer.step`."""
        rate, decay, momentum, is_on = inputs.unsqueeze(-1).unbind(1)  # (E, 1) each
        gradient = gradient + decay * self._weights
        moved = momentum * self._buffer + gradient
        self._buffer.lerp_(moved, is_on)
        direction = gradient + momentum * moved if self._is_nesterov else moved
        self._weights.addcmul_(direction, rate, value=-1)

    def count(self, steps: Sequence[int]) -> None:
        """As `FlatOptimizer.count`: no step depends on it."""


def clipped(gradient: Tensor, most: Tensor) -> Tensor:
    """Scale gradients down to a largest norm, as `torch.nn.utils.clip_grad_norm_`; gradient (E, P), most (E, 1)."""
    norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    factor: Tensor = (most / (norm + 1e-6)).clamp(max=1.0)
    return gradient * factor


def _column(values: object) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)  # type: ignore[call-overload]


def _share(stack: FlatStack, runs: Sequence[LanguageModelRun], states: dict[str, Tensor]) -> None:
    """Let the optimizer of each run keep its state in slices of `states`, (E, P) each by name, with what it has."""
    for name, flat in states.items():
        for run, slices in zip(runs, stack.slices_of(flat), strict=True):
            for parameter_name, part in slices.items():
                state = run.optimizer.state[run.model.get_parameter(parameter_name)]
                if state.get(name) is not None:
                    part.copy_(state[name])
                state[name] = part
