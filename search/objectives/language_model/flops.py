"""Floating-point operations of a run, counted once for each shape.

What counts is what the model's own forward pass and its gradients take on a CPU when the run trains alone: 2 m n k for
a product of (m, k) and (k, n), convolutions, and attention over all pairs of places, masked ones too. Elementwise work,
norms, the optimizer and the text sample do not count. So the number is the same on every device and in every fused
group: it depends on the cell, the text and the settings.
"""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from search.models.registry import count_parameters
from search.objectives.language_model.evaluation import windows_per_forward
from search.objectives.language_model.evaluation_texts import first_predictions
from search.objectives.language_model.interface import logits_of, training_loss
from search.objectives.language_model.rng import generator_for
from search.objectives.language_model.token_tensors import widened

if TYPE_CHECKING:
    from search.objectives.language_model.run import LanguageModelRun

log = logging.getLogger("objectives")

# Beyond it only shapes are computed, on torch's device "meta": its first use imports torch's compiler, which takes 1 s.
MOST_COMPUTED = 2e10
# A model that the device "meta" does not support computes one and two windows, of at most this size.
MOST_OF_A_WINDOW = 2e11
# What a place that attention sees adds to the parameters, in a guess of the size.
GUESSED_WIDTH = 128


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one training step, and of one evaluation on all its texts."""

    step: int
    evaluation: int

    def total(self, steps: int, evaluations: int) -> float:
        """Those of so many steps and evaluations."""
        return float(steps * self.step + evaluations * self.evaluation)


_counted: dict[str, Flops | None] = {}  # by shape


def flops_of(run: LanguageModelRun) -> Flops | None:
    """Count the operations of a run, or look up those of another run of its shape.

    Args:
        run: At any step; it is not changed.

    Returns:
        The counts; None for a model whose forward pass cannot be counted.
    """
    settings, read = run.settings, run.read
    batch = settings.batch_size, settings.gradient_accumulation_steps
    measured = settings.evaluation, settings.eval_batches, settings.eval_tokens, run.texts.held_out is None
    model = read.model, sorted(read.arguments.items()), run.block_size
    shape = repr((model, batch, measured, run.corpus.sha256))
    if shape not in _counted:
        _counted[shape] = _count(run)
    return _counted[shape]


def _count(run: LanguageModelRun) -> Flops | None:
    places = max(run.settings.batch_size, _windows_per_forward(run) / 3) * run.block_size
    guess = 6 * (count_parameters(run.model) + GUESSED_WIDTH * run.block_size) * places
    try:
        if guess <= MOST_COMPUTED:
            return _count_on(run, "cpu")
        try:
            return _count_on(run, "meta")
        except Exception as error:  # a user's model can raise anything
            log.debug("the device meta does not support model %r: %s", run.read.model, error)
        if guess / places * run.block_size <= MOST_OF_A_WINDOW:
            return _count_on(run, "cpu", from_two=True)
    except Exception as error:
        log.debug("cannot count the operations of model %r: %s", run.read.model, error)
    return None


def _count_on(run: LanguageModelRun, device: str, from_two: bool = False) -> Flops:
    """Count on a device; `from_two` infers the count of a batch from those of one and of two windows."""
    model, settings = _copy_on(run.model, device), run.settings
    loss_of = training_loss(model, settings.model_copy(update={"compile": False}))
    predictor = logits_of(model)
    x, y = (part.to(device) for part in run.batches.gather(run.batches.draw_with(generator_for(0, "flops"), 1)[0]))

    def step(windows: int) -> int:
        model.train()
        return _counted_in(lambda: loss_of(x[:windows], y[:windows]).backward())  # type: ignore[no-untyped-call]

    def forward(idx: Tensor) -> int:
        model.eval()  # with gradients: without them torch replaces some layers by kernels that nothing counts
        placed = widened(idx).to(device)
        return _scaled(lambda n: _counted_in(lambda: predictor(placed[:n])), len(placed), from_two)

    with warnings.catch_warnings(action="ignore"), torch.random.fork_rng(devices=[]):
        taken = settings.gradient_accumulation_steps * _scaled(step, settings.batch_size, from_two)
        if settings.evaluation == "sampled":
            return Flops(taken, len(run.texts.sampled) * settings.eval_batches * forward(x))
        return Flops(taken, _of_passes(run, forward))


def _of_passes(run: LanguageModelRun, forward: Callable[[Tensor], int]) -> int:
    """Count full passes over all texts; `forward` counts one of (B, T) ids."""
    total, known = 0, dict[tuple[int, int], int]()
    for text in run.texts.scored.values():
        inputs = first_predictions(text, run.settings.eval_tokens)[:-1]
        full, rest = divmod(len(inputs), run.block_size)
        windows = inputs[: full * run.block_size].view(full, run.block_size)
        for part in (*torch.split(windows, _windows_per_forward(run)), inputs[len(inputs) - rest :].unsqueeze(0)):
            shape = part.shape[0], part.shape[1]
            if part.numel():
                known[shape] = known[shape] if shape in known else forward(part)
                total += known[shape]
    return total


def _windows_per_forward(run: LanguageModelRun) -> int:
    return windows_per_forward(run.block_size, run.pass_vocab_size)


def _scaled(count: Callable[[int], int], windows: int, from_two: bool) -> int:
    """A count of so many windows."""
    if not from_two or windows <= 2:
        return count(windows)
    one, two = count(1), count(2)
    return one + (two - one) * (windows - 1)


def _counted_in(compute: Callable[[], object]) -> int:
    """Count what is computed."""
    counter = OperationCounter()
    # Fused kernels of attention and recurrent layers on a CPU have no formula; their plain products are counted.
    with sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False), counter:
        compute()
    return counter.flops


class OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts as torch's `FlopCounterMode`, with its formulas, but without importing torch's compiler."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute, and count."""
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(getattr(func, "_overloadpacket", func))
        if formula is not None:
            self.flops += int(formula(*args, **(kwargs or {}), out_val=result))
        return result


# torch wraps this method for its compiler; see `search.objectives.language_model.optimizer.eager`.
setattr(OperationCounter, "__torch_dispatch__", inspect.unwrap(OperationCounter.__torch_dispatch__))  # noqa: B010


def _copy_on(model: nn.Module, device: str) -> nn.Module:
    """A copy of a model on another device, which does not take twice the memory on its own."""
    moved: dict[int, object] = {}
    for each in (*model.parameters(), *model.buffers()):
        placed = each.detach().to(device, copy=True)
        moved[id(each)] = nn.Parameter(placed, each.requires_grad) if isinstance(each, nn.Parameter) else placed
    return copy.deepcopy(model, moved)
