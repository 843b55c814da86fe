"""A fused group on a CPU: runs that one worker trains at the same time, those of equal shapes as one stacked model.

`search.objectives.language_model.accelerated_group` is what stands in for it on an accelerator.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from search.models.stacked import StackedModel, can_stack, shape_of
from search.objectives.language_model import training_step
from search.objectives.language_model.optimizer import LearningRates
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.schedule import is_constant
from search.objectives.protocol import Evaluation


class Stack:
    """Runs whose models are stacked, each with its own batches, optimizer settings and step count.

    Args:
        runs: All with the same `_stack_key`.
    """

    def __init__(self, runs: Sequence[LanguageModelRun]) -> None:
        self.runs = list(runs)
        self._model = StackedModel([run.model for run in runs], runs[0].settings.label_smoothing)
        self._optimizer = JointOptimizer(runs)

    def take_step(self) -> list[LanguageModelRun]:
        """Take one step with every run.

        Returns:
            The runs whose loss is not finite; their weights are unchanged.
        """
        began = time.perf_counter()
        timer = self.runs[0].timer
        timer.begin()
        starts = torch.stack([run.batches.draw() for run in self.runs])  # (E, B) on the CPU
        self._optimizer.set_learning_rates()
        diverged = self._checked_step(starts)
        share_s = (time.perf_counter() - began) / len(self.runs)
        for run in self.runs:
            run.stepped(share_s)
        return [self.runs[e] for e in diverged]

    def _checked_step(self, starts: Tensor) -> list[int]:
        """Take a step that skips runs whose loss is not finite; returns their indices; starts (E, B)."""
        timer = self.runs[0].timer
        x, y = self._batches(starts)
        timer.end("data")
        losses = self._model.losses(x, y)
        diverged = [e for e, loss in enumerate(losses.tolist()) if not math.isfinite(loss)]
        timer.end("forward")
        self._model.backward(losses, without=diverged)
        timer.end("backward")
        self._optimizer.step()
        timer.end("optimizer")
        return diverged

    def _batches(self, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Every run's batch: inputs and targets, (E, B, T) int64 each; starts (E, B)."""
        x, y = self.runs[0].batches.gather(starts.flatten())  # all runs read the same text
        return x.view(*starts.shape, -1), y.view(*starts.shape, -1)


class JointOptimizer:
    """One optimizer for all runs of a stack, which updates the states of their optimizers in place.

    Args:
        runs: All with the same `_stack_key`. Those with equal settings and a constant learning rate share a group.
    """

    def __init__(self, runs: Sequence[LanguageModelRun]) -> None:
        self._clipped = [run for run in runs if run.settings.grad_clip]
        groups: dict[object, dict[str, Any]] = {}
        owners: dict[object, LanguageModelRun] = {}
        for index, run in enumerate(runs):
            (group,) = run.optimizer.param_groups
            settings = {name: value for name, value in group.items() if name != "params"}
            settings["lr"] = run.settings.learning_rate
            # torch initializes the momenta of a whole group at once, so new runs have a group of their own.
            is_new = not any(run.optimizer.state[parameter] for parameter in group["params"])
            key = (is_new, repr(settings)) if is_constant(run.settings) else index
            owners.setdefault(key, run)
            groups.setdefault(key, {**settings, "params": []})["params"].extend(group["params"])
        self._runs = list(owners.values())
        kind: Any = type(runs[0].optimizer)
        self._optimizer: Optimizer = kind(list(groups.values()))
        self._rates = LearningRates(self._optimizer)
        for run in runs:
            for parameter in run.model.parameters():
                self._optimizer.state[parameter] = run.optimizer.state[parameter]

    def set_learning_rates(self) -> None:
        """Set the learning rate of each run for its next step."""
        for group, run in enumerate(self._runs):
            self._rates.set(group, run.step, run.settings)

    def step(self) -> None:
        """Clip the gradients of each run, and take a step with all."""
        for run in self._clipped:
            clip_grad_norm_(run.model.parameters(), run.settings.grad_clip)
        self._optimizer.step()


class RunGroup:
    """Runs that advance together, step by step; removing one does not affect the others.

    Runs whose models cannot be stacked, or whose shape no other run has, take their steps alone.

    Args:
        runs: All on one device and of one corpus.
    """

    def __init__(self, runs: Sequence[LanguageModelRun]) -> None:
        assert len({run.batches.text.data_ptr() for run in runs}) == 1, "all runs of a group read one text"
        self._alone: list[LanguageModelRun] = []
        self.stacks: list[Stack] = []
        by_shape: dict[object, list[LanguageModelRun]] = {}
        for run in runs:
            by_shape.setdefault(_stack_key(run), []).append(run)
        for alike in by_shape.values():
            enough = len(alike) > 1 and training_step.can_stack(alike[0].model, alike[0].settings)
            if enough and can_stack([run.model for run in alike], *alike[0].batches.first()):
                self.stacks.append(Stack(alike))
            else:
                self._alone += alike

    @property
    def runs(self) -> list[LanguageModelRun]:
        """The runs of the group, in no particular order."""
        return [*self._alone, *(run for stack in self.stacks for run in stack.runs)]

    def advance(self, should_stop: Callable[[], bool]) -> list[tuple[LanguageModelRun, Evaluation]]:
        """Train until an evaluation of at least one run is due.

        Args:
            should_stop: Called after every step; each call takes at least one step or makes an evaluation.

        Returns:
            The runs that were evaluated, with NaN as soon as a loss is found not to be finite; none if `should_stop`
            returned True. A finished run must be removed before the next call.
        """
        while True:
            due = [run for run in self.runs if run.due]
            if due:
                return [(run, run.evaluate()) for run in due]
            if diverged := self.step():
                return [(run, run.record_divergence()) for run in diverged]
            if should_stop():
                return []

    def step(self) -> list[LanguageModelRun]:
        """Take one step with every run; returns the same as `Stack.take_step`."""
        diverged = [run for stack in self.stacks for run in stack.take_step()]
        for run in self._alone:
            with run.draws.active():
                if not run.take_step():
                    diverged.append(run)
        return diverged

    def remove(self, leavers: Sequence[LanguageModelRun]) -> None:
        """Remove runs; their models stay unchanged."""
        self._alone = [run for run in self._alone if run not in leavers]
        for stack in list(self.stacks):
            remaining = [run for run in stack.runs if run not in leavers]
            if len(remaining) == len(stack.runs):
                continue
            self.stacks.remove(stack)
            if len(remaining) > 1:
                self.stacks.append(Stack(remaining))
            else:
                self._alone += remaining


def _stack_key(run: LanguageModelRun) -> tuple[object, ...]:
    settings = run.settings
    kind = type(run.optimizer), settings.label_smoothing, training_step.can_stack(run.model, settings)
    return shape_of(run.model), settings.batch_size, run.block_size, kind
