"""A training step of a run that trains alone on a GPU: kernel by kernel, as a graph, and with other products."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.gpu.roofline import cell_text
from search.objectives.corpus import load_corpus
from search.objectives.language_model.cuda_graphs import Lane
from search.objectives.language_model.flops import flops_of
from search.objectives.language_model.objective import start
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.settings import LanguageModelSettings
from search.objectives.language_model.training_step import uses_tf32
from search.objectives.torch_setup import prepare_torch

WARM_UP, STEPS, REPEATS = 10, 50, 5
DROPOUT = 0.1
# The middle of the study `gpt`, and nanoGPT's model of Shakespeare's characters.
MODELS: tuple[tuple[Mapping[str, Any], int], ...] = (
    ({"model": "gpt", "n_layer": 3, "n_embd": 96, "n_head": 4, "block_size": 64}, 32),
    ({"model": "gpt", "n_layer": 6, "n_embd": 384, "n_head": 6, "block_size": 256}, 64),
)
# Settings, and whether the steps are captured as a graph.
WAYS: Mapping[str, tuple[Mapping[str, Any], bool]] = {
    "float32, kernel by kernel": ({}, False),
    "float32, graph": ({}, True),
    "tf32, graph": ({"dtype": "tf32"}, True),
    "bfloat16, kernel by kernel": ({"dtype": "bfloat16"}, False),
    "bfloat16, graph": ({"dtype": "bfloat16"}, True),
}


@dataclass(frozen=True)
class LoneStep:
    """A step of one run.

    Attributes:
        cell: The values of its cell, and its batch size.
        way: Of `WAYS`.
        step_us: Microseconds of a step, many of them in a row.
        flops_s: Floating-point operations a second; None where they cannot be counted.
    """

    cell: str
    way: str
    step_us: float
    flops_s: float | None


def lone_steps() -> list[dict[str, object]]:
    """Measure `MODELS` in all `WAYS` on the first GPU; the fields of `LoneStep`."""
    prepare_torch("cuda:0")
    return [asdict(lone_step(cell, batch_size, way)) for cell, batch_size in MODELS for way in WAYS]


def lone_step(cell: Mapping[str, Any], batch_size: int, way: str) -> LoneStep:
    """Measure a step of a cell with dropout, which stacks cannot have."""
    changed, is_captured = WAYS[way]
    settings = LanguageModelSettings(batch_size=batch_size, max_iters=10**6, eval_interval=10**6, **changed)
    run = start({**cell, "dropout": DROPOUT}, 0, settings, load_corpus(), "cuda:0")
    counted = flops_of(run)
    step_us = steps_us(run, is_captured)
    name = f"{cell_text(cell)} batch_size={batch_size}"
    return LoneStep(name, way, step_us, None if counted is None else 1e6 * counted.step / step_us)


def steps_us(run: LanguageModelRun, is_captured: bool) -> float:
    """The median microseconds of a step; several times many steps in a row, after some to warm up."""
    lane = Lane(run.device, uses_tf32(run.settings, run.device))
    if is_captured:
        run.take_steps_on(lane)
    taken = []
    with run.draws.active():
        for steps in (WARM_UP, *[STEPS] * REPEATS):
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(steps):
                run.take_step()
            torch.cuda.synchronize()
            taken.append(1e6 * (time.perf_counter() - began) / steps)
    lane.close()
    median_us: float = statistics.median(taken[1:])
    return median_us
