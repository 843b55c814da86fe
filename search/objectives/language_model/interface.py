"""How a model is called: it returns logits, or logits and its own loss, as minGPT's and nanoGPT's do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search.objectives.errors import ObjectiveError
from search.objectives.language_model.settings import LanguageModelSettings


class LogitsOnly(nn.Module):
    """Calls a model whose forward returns (logits, loss) as one that returns the logits of every position.

    Args:
        model: From (B, T) int64 and targets of the same shape to (B, T, V) and a loss. Without targets it may return
            the logits of the last position only, so it always gets some.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, idx: Tensor) -> Tensor:
        """Predict each next character; idx (B, T) int64 to logits (B, T, V)."""
        idx = idx.contiguous()
        logits: Tensor = self.model(idx, idx)[0]
        return logits

    def constant_weights(self) -> AbstractContextManager[object]:
        """That of the model."""
        return constant_weights(self.model)


def constant_weights(model: nn.Module) -> AbstractContextManager[object]:
    """What a model enters while its weights stay what they are: its own context manager of this name, if it has one."""
    enter = getattr(model, "constant_weights", None)
    return enter() if callable(enter) else nullcontext()


def returns_loss(model: nn.Module) -> bool:
    """Whether the forward of a model takes targets too, and so returns (logits, loss)."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    return len(parameters) > 1 and parameters[1].name in ("targets", "target", "labels", "y")


def has_loss_method(model: nn.Module) -> bool:
    """Whether the class of a model defines `loss(logits, targets)`."""
    return inspect.isfunction(getattr(type(model), "loss", None))


def logits_of(model: nn.Module) -> nn.Module:
    """The model as one from (B, T) int64 to logits (B, T, V); it shares the weights."""
    return LogitsOnly(model) if returns_loss(model) else model


def has_own_loss(model: nn.Module) -> bool:
    """Whether a model computes the loss that it is trained with."""
    return returns_loss(model) or has_loss_method(model)


def training_loss(model: nn.Module, settings: LanguageModelSettings) -> Callable[[Tensor, Tensor], Tensor]:
    """How to compute the loss of a batch.

    Args:
        model: The model.
        settings: `label_smoothing` of the cross-entropy, `compile`.

    Returns:
        A function from inputs and targets, (B, T) int64 each, to a loss (): the model's own if it has one, else the
        mean cross-entropy.

    Raises:
        ObjectiveError: Label smoothing and a model with a loss of its own.
    """
    if has_own_loss(model) and settings.label_smoothing:
        raise ObjectiveError(
            f"label_smoothing={settings.label_smoothing} has no effect, because the model computes its loss itself; "
            "set it to 0"
        )
    call: Callable[..., Any] = _compiled(model) if settings.compile else model
    # Batches are slices of longer windows, and losses often view their targets as one row, which takes contiguous ones.
    if returns_loss(model):
        return lambda x, y: call(x.contiguous(), y.contiguous())[1]
    if has_loss_method(model):
        own: Callable[..., Tensor] = cast(Any, model).loss
        return lambda x, y: own(call(x), y.contiguous())
    smoothing = settings.label_smoothing
    return lambda x, y: F.cross_entropy(call(x).flatten(0, 1), y.flatten(), label_smoothing=smoothing)


def _compiled(model: nn.Module) -> Callable[..., Any]:
    """What `torch.compile` makes of a model; it compiles at the first call."""
    optimized = torch.compile(model)

    def call(*tensors: Tensor) -> Any:
        try:
            return optimized(*tensors)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ObjectiveError(
                f"torch.compile failed: {reason}; install what it needs (on a CPU a C++ compiler), or set "
                "compile = false"
            ) from error

    return call
