"""What is kept of a trained model."""

from __future__ import annotations

from safetensors.torch import save
from torch import nn


def weights(model: nn.Module) -> bytes:
    """The state of a model in the safetensors format, on whatever device it is.

    Args:
        model: Its state must be tensors only.
    """
    # Cloned: the format knows no tensors that share memory, as tied weights and the parts of a stack do.
    return save({name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()})
