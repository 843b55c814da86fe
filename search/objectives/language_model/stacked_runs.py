"""A fused group: runs that one worker trains at the same time, those of equal shapes as one stacked model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from search.models.stacked import StackedModel, can_stack, shape_of
from search.objectives.language_model.cuda_graphs import CudaCapture, GraphedStep
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.protocol import Evaluation


class Stack:
    """Runs whose models are stacked, each with its own batches, optimizer settings and step count.

    Args:
        runs: Of one `_stack_key`.
        capture: Captures the steps as a CUDA graph; None on a CPU.
    """

    def __init__(self, runs: Sequence[LanguageModelRun], capture: CudaCapture | None = None) -> None:
        self.runs = list(runs)
        self._model = StackedModel([run.model for run in runs])
        self._loss_sums = torch.stack([run.loss_sum for run in runs])  # (E,)
        for run, part in zip(runs, self._loss_sums, strict=True):
            run.loss_sum = part
        self._optimizer = _joint_optimizer(runs)
        self._graphed: GraphedStep | None = None
        if capture is not None:
            like = torch.empty(len(runs), runs[0].settings.batch_size, dtype=torch.int64)
            self._graphed = GraphedStep(self._blind_step, like, runs[0].device, capture)

    def take_step(self) -> list[LanguageModelRun]:
        """Take one step with every member.

        Returns:
            The members whose loss is seen not to be finite; their weights stayed as they were. On a GPU none is seen:
            looking would wait for the device. The sums of the losses tell at the next evaluation.
        """
        began = time.perf_counter()
        timer = self.runs[0].timer
        timer.begin()
        starts = torch.stack([run.batches.draw() for run in self.runs])  # (E, B) on the CPU
        diverged: list[int] = []
        if self._graphed is not None:
            self._graphed(starts)
            timer.end("step")
        else:
            diverged = self._watched_step(starts)
        share_s = (time.perf_counter() - began) / len(self.runs)
        for run in self.runs:
            run.stepped(share_s)
        return [self.runs[e] for e in diverged]

    def _watched_step(self, starts: Tensor) -> list[int]:
        """A step that leaves out members whose loss is not finite, and says which; starts (E, B)."""
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

    def _blind_step(self, starts: Tensor) -> None:
        """A step that looks at no value, so that it can be captured; starts (E, B) on the device."""
        losses = self._model.losses(*self._batches(starts))
        self._loss_sums += losses.detach()
        self._model.backward(losses)
        self._optimizer.step()

    def _batches(self, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Every member's batch: inputs and targets, (E, B, T) int64 each; starts (E, B)."""
        x, y = self.runs[0].batches.gather(starts.flatten())  # all members read the same text
        return x.view(*starts.shape, -1), y.view(*starts.shape, -1)


def _joint_optimizer(runs: Sequence[LanguageModelRun]) -> torch.optim.AdamW:
    """One optimizer that steps those of all runs: it works on their very states."""
    settings: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for run in runs:
        key = run.settings.learning_rate, run.settings.weight_decay
        settings.setdefault(key, []).extend(run.model.parameters())
    joint = torch.optim.AdamW(
        [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in settings.items()],
        fused=True,
        capturable=runs[0].device.type == "cuda",
    )
    for run in runs:
        for parameter in run.model.parameters():
            joint.state[parameter] = run.optimizer.state[parameter]
    return joint


class RunGroup:
    """Runs that advance step by step together; one leaves without the others noticing.

    Runs whose models cannot be stacked, or that have no one of their shape, take their steps alone.

    Args:
        runs: On one device, of one corpus.
    """

    def __init__(self, runs: Sequence[LanguageModelRun]) -> None:
        assert len({run.batches.text.data_ptr() for run in runs}) == 1, "all runs of a group read one text"
        device = runs[0].device
        # On a GPU even a single run is a stack: only stacks are captured.
        self._capture = CudaCapture(device) if device.type == "cuda" else None
        self._alone: list[LanguageModelRun] = []
        self.stacks: list[Stack] = []
        by_shape: dict[object, list[LanguageModelRun]] = {}
        for run in runs:
            by_shape.setdefault(_stack_key(run), []).append(run)
        for alike in by_shape.values():
            enough = len(alike) > 1 or self._capture is not None
            if enough and can_stack([run.model for run in alike], *alike[0].batches.first()):
                self.stacks.append(Stack(alike, self._capture))
            else:
                self._alone += alike

    @property
    def runs(self) -> list[LanguageModelRun]:
        """The members, in no particular order."""
        return [*self._alone, *(run for stack in self.stacks for run in stack.runs)]

    def advance(self, should_stop: Callable[[], bool]) -> list[tuple[LanguageModelRun, Evaluation]]:
        """Train until an evaluation of at least one member is due.

        Args:
            should_stop: Asked after every step; at least one is taken, or an evaluation made, in any case.

        Returns:
            The members that were evaluated, with NaN as soon as a loss is seen not to be finite; none when
            `should_stop` said so. A finished member must leave before the next call.
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
        """Take one step with every member; the return value as for `Stack.take_step`."""
        diverged = [run for stack in self.stacks for run in stack.take_step()]
        for run in self._alone:
            with run.draws.active():
                if not run.take_step():
                    diverged.append(run)
        return diverged

    def remove(self, leavers: Sequence[LanguageModelRun]) -> None:
        """Let members go; their models stay as they are."""
        self._alone = [run for run in self._alone if run not in leavers]
        for stack in list(self.stacks):
            left = [run for run in stack.runs if run not in leavers]
            if len(left) == len(stack.runs):
                continue
            self.stacks.remove(stack)
            if len(left) > 1 or (left and self._capture is not None):
                self.stacks.append(Stack(left, self._capture))
            else:
                self._alone += left


def _stack_key(run: LanguageModelRun) -> tuple[object, ...]:
    return shape_of(run.model), run.settings.batch_size, run.block_size
