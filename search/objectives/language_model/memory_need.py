"""How much of a device's memory a run takes in a group: a formula, corrected by what groups turn out to take."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from search.models.flat_stack import FlatStack
from search.models.registry import build_model
from search.objectives.language_model.cells import ReadCell
from search.objectives.language_model.evaluation import TOKENS_PER_FORWARD

log = logging.getLogger("objectives")

# `python -m benchmarks.gpu_host` prints the formula beside what torch's allocator takes for the built-in shapes.
# Of the numbers of a model: weights, two states of the optimizer, a gradient, and results on the way to the next one.
COPIES_OF_WEIGHTS = 8
# Of what the backward pass needs: itself, its gradients, and results on the way.
COPIES_OF_ACTIVATIONS = 3
STACK_BYTES = 64 << 20  # of a stack, whatever is in it: the workspace of cuBLAS, and what segments round up
USABLE = 0.8  # of the memory that is free
LARGEST_FACTOR = 4.0


def run_bytes(read: ReadCell, vocab_size: int) -> int | None:
    """About how much memory one run takes in a stack.

    Args:
        read: The cell.
        vocab_size: Ids V.

    Returns:
        Bytes; None for a model that cannot be stacked.
    """
    model = build_model(read.model, read.arguments, seed=0)
    batch_size, block_size = read.settings.batch_size, read.block_size
    try:
        one, two = (_activation_bytes(model, windows, block_size) for windows in (1, 2))
    except Exception as error:  # a user's model can raise anything
        log.debug("no formula for the memory of model %r: %s", read.model, error)
        return None
    weights = sum(each.numel() * each.element_size() for each in model.parameters())
    activations = one + (two - one) * (batch_size - 1)
    evaluated = max(1.0, TOKENS_PER_FORWARD / (batch_size * block_size))  # by the ids of a step
    return STACK_BYTES + COPIES_OF_WEIGHTS * weights + int((COPIES_OF_ACTIVATIONS + evaluated) * activations)


def _activation_bytes(model: nn.Module, windows: int, block_size: int) -> int:
    """What the backward pass of a batch needs besides the weights, found by computing its loss on the CPU."""
    kept: dict[int, Tensor] = {}

    def keep(value: Tensor) -> Tensor:
        kept[value.untyped_storage()._cdata] = value
        return value

    batch = torch.zeros(1, windows, block_size, dtype=torch.int64)
    stack = FlatStack([model])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        stack.losses(batch, batch)
    return sum(each.untyped_storage().nbytes() for each in kept.values())


class MemoryNeed:
    """Which share of a device one run takes.

    Args:
        device: Where the runs train.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._needs: dict[str, int | None] = {}
        self._factor = 1.0  # what groups take, by what the formula says

    def share(self, read: ReadCell, vocab_size: int) -> float:
        """The share that a run takes of the memory that this process can use; 1 if the run cannot be stacked."""
        need = self._need(read, vocab_size)
        return 1.0 if need is None else min(1.0, need * self._factor / self.usable_bytes)

    def compare(self, reads: Iterable[tuple[ReadCell, int]]) -> None:
        """Compare the formula with what a group has taken, for the next groups.

        Args:
            reads: The cell of each run of the group, and its V.
        """
        need = sum(self._need(*each) or 0 for each in reads)
        if self._device.type == "cuda" and need:
            taken = torch.cuda.max_memory_reserved(self._device)
            self._factor = min(LARGEST_FACTOR, max(1 / LARGEST_FACTOR, taken / need))
            log.info("the group takes %.1f GB of memory, %.2f of what the formula says", taken / 1e9, taken / need)

    @property
    def usable_bytes(self) -> int:
        """How much memory this process can use for groups: a part of what is free, and of what it holds itself."""
        if self._device.type != "cuda":
            return 4 << 30  # other devices do not tell
        free, total = torch.cuda.mem_get_info(self._device)
        own = torch.cuda.memory_reserved(self._device)
        return int(USABLE * min(free + own, total * torch.cuda.get_per_process_memory_fraction(self._device)))

    def _need(self, read: ReadCell, vocab_size: int) -> int | None:
        shape = f"{read.model} {read.arguments} {read.block_size} {read.settings.batch_size} {vocab_size}"
        if shape not in self._needs:
            self._needs[shape] = run_bytes(read, vocab_size)
        return self._needs[shape]
