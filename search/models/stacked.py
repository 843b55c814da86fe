"""Several models of equal shapes as one: every tensor gets a leading member axis E.

One kernel then does the work of E, which is faster on a GPU whose kernels end before the next one is launched. The
weights of each member are slices of the stack's tensors, so the optimizer, evaluation and checkpoint of a member work
as if it were alone.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from search.models.stacked_attention import StackedAttention

# Relative tolerance. Sums in another order differ by less; a stack that computes something else differs by more.
LOSS_TOLERANCE = 1e-4


def shape_of(model: nn.Module) -> Hashable:
    """What models must have in common to be stacked: the types of their modules and the numbers and names in them, such
    as the number of attention heads, and names and shapes of tensors."""
    modules = tuple((type(module), _plain_attributes(module)) for module in model.modules())
    parameters = tuple((name, each.shape, each.dtype, each.requires_grad) for name, each in model.named_parameters())
    buffers = tuple((name, each.shape, each.dtype) for name, each in model.named_buffers())
    return modules, parameters, buffers


def _plain_attributes(module: nn.Module) -> tuple[tuple[str, Hashable], ...]:
    return tuple((name, value) for name, value in vars(module).items() if isinstance(value, (bool, int, float, str)))


class StackedModel:
    """Models from (B, T) int64 to logits (B, T, V), stacked.

    Args:
        models: The E members, all with the same `shape_of` and on one device. Their parameters become slices of the
            stack's: a change of one changes the other.
        label_smoothing: Of the cross-entropy.

    Attributes:
        parameters: By name, (E, ...) each.
        buffers: By name, (E, ...) each.
    """

    def __init__(self, models: Sequence[nn.Module], label_smoothing: float = 0.0) -> None:
        first = models[0]
        self._label_smoothing = label_smoothing
        self.parameters = {
            name: torch.stack([model.get_parameter(name).detach() for model in models]).requires_grad_(
                each.requires_grad
            )
            for name, each in first.named_parameters()
        }
        self.buffers = {
            name: torch.stack([model.get_buffer(name) for model in models]) for name, _ in first.named_buffers()
        }
        self._parts: list[tuple[Tensor, list[nn.Parameter]]] = []  # each stack with the members' slices of it
        for name, stacked in self.parameters.items():
            parts = [model.get_parameter(name) for model in models]
            for each, part in zip(parts, stacked.detach(), strict=True):
                each.data = part
            self._parts.append((stacked, parts))
        # Provides only the code: every tensor is passed in. It is a copy because its attributes are changed.
        self._code = copy.deepcopy(first)
        if hasattr(self._code, "fixed_shapes"):
            self._code.fixed_shapes = True  # type: ignore[assignment]
        self._losses = vmap(self._loss, randomness="error")

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """The cross-entropy of each member on its own batch, (E,) float32; x and y (E, B, T) int64."""
        # The fused attention kernels do not support a member axis.
        with StackedAttention(), sdpa_kernel(SDPBackend.MATH):
            losses: Tensor = self._losses(self.parameters, self.buffers, x, y)
        return losses

    def _loss(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = functional_call(self._code, (parameters, buffers), (x,))  # (B, T, V)
        return F.cross_entropy(logits.flatten(0, 1), y.flatten(), label_smoothing=self._label_smoothing)

    def backward(self, losses: Tensor, without: Collection[int] = ()) -> None:
        """Compute the gradient of each parameter of each member.

        Args:
            losses: (E,) float32, of `losses`.
            without: Indices of members that get none, so that an optimizer leaves them unchanged.
        """
        for stacked, _ in self._parts:
            stacked.grad = None
        losses.sum().backward()  # type: ignore[no-untyped-call]
        for stacked, parts in self._parts:
            grads = [None] * len(parts) if stacked.grad is None else stacked.grad.unbind()
            for e, (part, grad) in enumerate(zip(parts, grads, strict=True)):
                part.grad = None if e in without else grad


class Stack(Protocol):
    """A stack of models."""

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """The cross-entropy of each member on its own batch, (E,) float32; x and y (E, B, T) int64."""
        ...


def can_stack(
    models: Sequence[nn.Module], x: Tensor, y: Tensor, stack: Callable[[Sequence[nn.Module]], Stack] = StackedModel
) -> bool:
    """Whether a stack of these models computes the same losses as each model alone; tried on copies.

    False for models that draw random numbers, keep running statistics, or do what `torch.func.vmap` does not support.

    Args:
        models: All with the same `shape_of`.
        x: Inputs to try, (B, T) int64, on the device where it is tried.
        y: Targets, (B, T) int64.
        stack: Makes the stack.
    """
    copies = [copy.deepcopy(model).to(x.device) for model in models]
    with torch.no_grad(), torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        alone = torch.stack([F.cross_entropy(model(x).flatten(0, 1), y.flatten()) for model in copies])
        if any(
            not torch.equal(before.to(after.device), after)
            for model, tried in zip(models, copies, strict=True)
            for before, after in zip(model.buffers(), tried.buffers(), strict=True)
        ):
            return False
        every = len(models), *x.shape
        try:
            with warnings.catch_warnings(action="ignore"):  # of what vmap does slowly
                stacked = stack(copies).losses(x.expand(every), y.expand(every))
        except (RuntimeError, ValueError, NotImplementedError) as error:
            if type(error).__name__ == "OutOfMemoryError":
                raise
            return False
    return bool(torch.allclose(alone, stacked, rtol=LOSS_TOLERANCE, atol=0.0, equal_nan=True))
