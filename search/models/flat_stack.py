"""Models stacked for an accelerator: all weights of all members are one tensor (E, P).

An optimizer step is then a handful of kernels, however many weights and members there are, and the settings of each
member are a column (E, 1). The weights of each member are slices of that tensor, as in `search.models.stacked`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from search.models.lookup import MAX_ONE_HOT, AcceleratorLookups, one_hot
from search.models.stacked_attention import StackedAttention


class FlatStack:
    """Models from (B, T) int64 to logits (B, T, V), stacked.

    Args:
        models: The E members, all with the same `search.models.stacked.shape_of`, float32 weights, and on one device.
            Their weights become slices of the stack's: a change of one changes the other.
        label_smoothing: Of the cross-entropy.

    Attributes:
        weights: (E, P) float32, the trained parameters of all members; P numbers a member.
    """

    def __init__(self, models: Sequence[nn.Module], label_smoothing: float = 0.0) -> None:
        first = models[0]
        self._label_smoothing = label_smoothing
        trained = {name: each for name, each in first.named_parameters() if each.requires_grad}
        self._shapes = {name: each.shape for name, each in trained.items()}
        self._sizes = [each.numel() for each in trained.values()]
        columns = [torch.stack([model.get_parameter(name).detach().flatten() for model in models]) for name in trained]
        self.weights = torch.cat(columns, dim=1).requires_grad_()
        for model, slices in zip(models, self.slices_of(self.weights.detach()), strict=True):
            for name, part in slices.items():
                model.get_parameter(name).data = part
        frozen = [name for name, each in first.named_parameters() if not each.requires_grad]
        self._fixed = {name: torch.stack([model.get_parameter(name) for model in models]) for name in frozen}
        self._fixed |= {
            name: torch.stack([model.get_buffer(name) for model in models]) for name, _ in first.named_buffers()
        }
        # Provides only the code: every tensor is passed in. It is a copy because its attributes are changed.
        self._code = copy.deepcopy(first)
        for attribute in ("fixed_shapes", "on_accelerator"):
            if hasattr(self._code, attribute):
                setattr(self._code, attribute, True)

    def slices_of(self, flat: Tensor) -> list[dict[str, Tensor]]:
        """The slices of each member of a tensor laid out as `weights`, (E, P), by name; they share its memory."""
        parts = self._named(flat)
        return [{name: part[e] for name, part in parts.items()} for e in range(flat.shape[0])]

    def logits(self, x: Tensor, training: bool = True) -> Tensor:
        """What each member predicts; x (E, B, T) int64, or (B, T) for all, to (E, B, T, V) float32."""
        self._code.train(training)
        call = vmap(self._logits, in_dims=(0, 0, 0 if x.dim() == 3 else None), randomness="error")
        # The fused attention kernels do not support a member axis.
        with StackedAttention(), sdpa_kernel(SDPBackend.MATH):
            logits: Tensor = call(self._named(self.weights), self._fixed, x)
        return logits

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """The cross-entropy of each member on its own batch, (E,) float32; x and y (E, B, T) int64."""
        losses = place_losses(self.logits(x), y, self._label_smoothing)
        return losses.mean(dim=(1, 2))

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        parts = torch.split(flat, self._sizes, dim=1)
        return {
            name: part.view(flat.shape[0], *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def _logits(self, weights: dict[str, Tensor], fixed: dict[str, Tensor], x: Tensor) -> Tensor:
        with AcceleratorLookups(fixed.values()):
            logits: Tensor = functional_call(self._code, (weights, fixed), (x,))
        return logits


def place_losses(logits: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each prediction, with a gradient that needs neither a sort nor atomic additions.

    Args:
        logits: (E, B, T, V) float32.
        y: The targets, (E, B, T) int64, or (B, T) for all members.
        label_smoothing: The share of the target that all V ids get alike.

    Returns:
        (E, B, T) float32, in nats.
    """
    log_p = logits.log_softmax(dim=-1)
    vocab_size = logits.shape[-1]
    if vocab_size <= MAX_ONE_HOT:
        losses = -(log_p * one_hot(y, vocab_size)).sum(dim=-1)
    else:  # each row of the gradient gets one number
        losses = -log_p.gather(-1, y.expand(logits.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - label_smoothing * log_p.mean(dim=-1)
    return losses
