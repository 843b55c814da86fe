"""One optimizer step of a run that trains alone."""

from __future__ import annotations

import contextlib
import math

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from search.objectives.language_model.batches import BatchSampler
from search.objectives.language_model.cuda_graphs import Lane
from search.objectives.language_model.interface import has_own_loss, training_loss
from search.objectives.language_model.optimizer import HOOK, LearningRates, make_optimizer
from search.objectives.language_model.repeatable_sums import RepeatableSums
from search.objectives.language_model.settings import OPTIMIZERS, LanguageModelSettings
from search.objectives.phase_timer import PhaseTimer
from search.objectives.torch_setup import product_precision


class TrainingStep:
    """Takes the steps of a run that trains alone.

    Args:
        model: On `device`.
        batches: Where its batches come from.
        settings: How it is trained.
        device: Where it is trained.
        timer: Gets the time, by kind of work.

    Attributes:
        optimizer: That of the run.

    Raises:
        ObjectiveError: As for `make_optimizer` and `training_loss`.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: BatchSampler,
        settings: LanguageModelSettings,
        device: torch.device,
        timer: PhaseTimer,
    ) -> None:
        self._model, self._batches, self._settings, self._device = model, batches, settings, device
        self._timer = timer
        self._loss = training_loss(model, settings)
        self.optimizer = make_optimizer(model, settings, device)
        self._rates = LearningRates(self.optimizer)
        self._sums = RepeatableSums(model, device)
        self._lane: Lane | None = None

    def take_on(self, lane: Lane) -> None:
        """Do the work of all steps to come on a lane, which captures it.

        Args:
            lane: One that captures; the same work is done in each step, and what differs is in tensors.
        """
        self._lane = lane
        settings, device = self._settings, self._device
        for attribute in ("fixed_shapes", "on_accelerator"):
            if hasattr(self._model, attribute):
                setattr(self._model, attribute, True)
        with lane.active():
            shape = settings.gradient_accumulation_steps, settings.batch_size
            self._starts = torch.zeros(shape, dtype=torch.int64, device=device)
            for group in self.optimizer.param_groups:  # a number would stay what it is in the first step
                group["lr"] = torch.tensor(float(group["lr"]), device=device)

    def take(self, step: int, loss_sum: Tensor) -> bool:
        """Take one step.

        Args:
            step: Steps taken before.
            loss_sum: () float32 on the device; gets the loss, except on a CPU.

        Returns:
            False if the loss is found not to be finite; the weights are unchanged then. Only a CPU looks, because a GPU
            would have to wait.
        """
        self._timer.begin()
        self._rates.set_all(step, self._settings)
        starts = self._batches.draw_several(self._settings.gradient_accumulation_steps)  # (A, B)
        if self._lane is None:
            return self._update(starts, loss_sum)
        with self._lane.active():
            self._starts.copy_(starts.pin_memory(), non_blocking=True)
        self._lane.run("step", lambda: self._update(self._starts, loss_sum))
        self._lane.pace()
        self._timer.end("step")
        return True

    def _update(self, starts: Tensor, loss_sum: Tensor) -> bool:
        """Take the step on the batches that start there, (A, B) int64; returns the same as `take`."""
        with product_precision(uses_tf32(self._settings, self._device)):
            if self._device.type == "cpu":  # repeats anyway
                finite = self._take_gradients(starts, loss_sum)
            else:
                finite = self._sums.do(lambda: self._take_gradients(starts, loss_sum))
        if not finite:
            return False
        if self._settings.grad_clip:
            clip_grad_norm_(self._model.parameters(), self._settings.grad_clip)
        self.optimizer.step()
        self._timer.end("optimizer")
        return True

    def _take_gradients(self, starts: Tensor, loss_sum: Tensor) -> bool:
        """Replace the gradients by those of some batches; returns the same as `_add_gradients`."""
        self.optimizer.zero_grad(set_to_none=True)
        return all(self._add_gradients(drawn, loss_sum) for drawn in starts)

    def _add_gradients(self, starts: Tensor, loss_sum: Tensor) -> bool:
        """Add the gradients of one batch; False, without them, if its loss is found not to be finite."""
        x, y = self._batches.gather(starts)
        self._timer.end("data")
        with precision(self._settings, self._device):
            loss = self._loss(x, y)
        if self._settings.gradient_accumulation_steps > 1:
            loss = loss / self._settings.gradient_accumulation_steps
        finite = True
        if self._device.type == "cpu":
            finite = math.isfinite(loss.item())
        else:
            loss_sum += loss.detach()
        self._timer.end("forward")
        if finite:
            loss.backward()  # type: ignore[no-untyped-call]
            self._timer.end("backward")
        return finite


def precision(settings: LanguageModelSettings, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Makes the forward pass compute with the numbers that the settings ask for."""
    if settings.dtype == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return product_precision(uses_tf32(settings, device))


def uses_tf32(settings: LanguageModelSettings, device: torch.device) -> bool:
    """Whether products are computed in TF32, which CUDA GPUs alone have."""
    return settings.dtype == "tf32" and device.type == "cuda"


def can_stack(model: nn.Module, settings: LanguageModelSettings) -> bool:
    """Whether the steps of a run are of a kind that a stack of models takes too."""
    plain = settings.dtype != "bfloat16" and not settings.compile and settings.gradient_accumulation_steps == 1
    is_ours = settings.optimizer in OPTIMIZERS and not hasattr(model, HOOK)
    return plain and is_ours and not has_own_loss(model)
