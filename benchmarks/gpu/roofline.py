"""A training step of each shape alone on a GPU, beside what limits it: arithmetic, memory, and the cost of a kernel."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from search.objectives.corpus import load_corpus
from search.objectives.language_model.accelerated_group import AcceleratedGroup
from search.objectives.language_model.accelerated_stack import AcceleratedStack
from search.objectives.language_model.objective import start
from search.objectives.language_model.settings import LanguageModelSettings
from search.objectives.torch_setup import prepare_torch

REPLAYS = 40
PICKING = {torch.ops.aten.index, torch.ops.aten.index_select, torch.ops.aten.embedding}
# Members of a stack in runs of 38 and of 380 trials: randn and sinpe are of one shape.
SHAPES: tuple[tuple[Mapping[str, Any], tuple[int, int]], ...] = (
    ({"model": "bigram", "block_size": 8}, (1, 10)),
    ({"model": "bigram_mf", "block_size": 8, "n_embd": 384}, (1, 10)),
    *(
        ({"model": "bigram_v2", "n_embd": n_embd, "block_size": block_size, "pe_type": pe_type}, members)
        for pe_type, members in (("randn", (2, 20)), ("rope", (1, 10)))
        for block_size in (8, 64)
        for n_embd in (64, 256)
    ),
)


@dataclass(frozen=True)
class StepCost:
    """A step of a stack.

    Attributes:
        cell: The values of its members' cell.
        runs: Its members E.
        step_us: Microseconds of a step, many of them in a row.
        kernels: Kernels and copies of a step.
        busy_us: The sum of their times.
        operations: Floating-point operations of its products.
        moved: Bytes that its kernels would read and write if each value came from memory once.
        peak_bytes: What the allocator held at most, evaluations included.
    """

    cell: str
    runs: int
    step_us: float
    kernels: float
    busy_us: float
    operations: int
    moved: int
    peak_bytes: int

    def limits_us(self, node_us: float, float32_s: float, copy_bytes_s: float) -> dict[str, float]:
        """What each limit alone would take, in microseconds, by its name."""
        return {
            "kernels": self.kernels * node_us,
            "arithmetic": 1e6 * self.operations / float32_s,
            "memory": 1e6 * self.moved / copy_bytes_s,
        }


def step_costs() -> list[dict[str, object]]:
    """Measure `SHAPES` on the first GPU; the fields of `StepCost`."""
    prepare_torch("cuda:0")
    return [asdict(step_cost(cell, members)) for cell, numbers in SHAPES for members in numbers]


def step_cost(cell: Mapping[str, Any], members: int) -> StepCost:
    """Measure a step of a stack alone."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    corpus, settings = load_corpus(), LanguageModelSettings()
    group = AcceleratedGroup([start(cell, seed, settings, corpus, "cuda:0") for seed in range(members)])
    (stack,) = group.stacks
    group.advance(lambda: False)  # its first evaluation
    for _ in range(3):
        stack.take_steps()
    stack._lane.wait()
    began = time.perf_counter()
    for _ in range(REPLAYS):
        stack.take_steps()
    stack._lane.wait()
    step_us = 1e6 * (time.perf_counter() - began) / (REPLAYS * stack._steps)
    kernels, busy_us = profiled(stack)
    operations, moved = counted(stack)
    cost = StepCost(
        cell_text(cell),
        members,
        step_us,
        kernels,
        busy_us,
        operations,
        moved,
        torch.cuda.max_memory_reserved(),
    )
    group.remove(group.runs)
    return cost


def cell_text(cell: Mapping[str, Any]) -> str:
    """A cell in a table: its model, and the names and values of the rest."""
    return " ".join(str(value) if name == "model" else f"{name}={value}" for name, value in cell.items())


def profiled(stack: AcceleratedStack) -> tuple[float, float]:
    """Kernels and copies of a step, and the sum of their microseconds."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        stack.take_steps()
        stack._lane.wait()
    events = [event for event in profiler.events() or () if event.device_type == DeviceType.CUDA]
    return len(events) / stack._steps, sum(event.device_time for event in events) / stack._steps


def counted(stack: AcceleratedStack) -> tuple[int, int]:
    """Floating-point operations of the products of a step, and bytes that its kernels read and write."""
    moved = MovedBytes()
    with FlopCounterMode(display=False) as operations, moved:
        stack._train()
    torch.cuda.synchronize()
    return operations.get_total_flops() // stack._steps, moved.total // stack._steps


class MovedBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the sizes of what each operation reads and writes; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in PICKING:  # reads of its table what it writes
            self.total += 2 * _bytes(result) + _bytes(args[1:])
        elif not func.is_view:
            self.total += sum(_bytes(each) for each in (*args, *(kwargs or {}).values(), result))
        return result


def _bytes(value: object) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(_bytes(each) for each in value) if isinstance(value, Sequence) and not isinstance(value, str) else 0
