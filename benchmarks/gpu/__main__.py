"""What a CUDA GPU does with the built-in study: `python -m benchmarks.gpu`.

First what the card can do at most: the time of a kernel in a graph, the speed of its memory and of its products. Then
how far losses on it are from those on the CPU, what a step of each shape takes beside these limits, whole runs of 38
and 380 trials, and the same work with a plain loop, stock Optuna and Ray Tune. The folder `--work` stores the
measurements: the same command again makes the missing ones, and `--only` selects measurements.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from benchmarks.compare.stored import StoredMeasurements
from benchmarks.gpu.agreement import agreement
from benchmarks.gpu.card import card
from benchmarks.gpu.contenders import optuna, plain, ray
from benchmarks.gpu.lone_steps import lone_steps
from benchmarks.gpu.page import markdown
from benchmarks.gpu.roofline import step_costs
from benchmarks.gpu.whole_runs import service_on_gpu
from search.command_line import new_program
from search.errors import UsageError, user_errors
from search.option_fields import Option, Options


@dataclass(frozen=True, kw_only=True)
class GpuOptions(Options):
    """The options of this program."""

    work: Annotated[Path, Option("Folder for the measurements.", "FOLDER")] = Path("benchmark-work/gpu")
    only: Annotated[str | None, Option("Make only these, without a page.", "NAME,NAME")] = None
    processes: Annotated[int, Option("Of Optuna and Ray Tune side by side.", "N", minimum=1)] = 8
    limit: Annotated[float, Option("After this, Optuna and Ray Tune are stopped.", "SECONDS")] = 600.0
    output: Annotated[Path | None, Option("Also write the page to this file.", "FILE")] = None


def makers(work: Path, processes: int, limit_s: float) -> dict[str, Callable[[], Any]]:
    """How each measurement is made, by its name."""
    unpruned = ("--pruner", "none")
    return {
        "card": card,
        "steps": step_costs,
        "lone": lone_steps,
        "agreement": agreement,
        "first": lambda: service_on_gpu(work / "first-run", *unpruned),
        "service": lambda: service_on_gpu(work / "service-run", *unpruned),
        "pruned": lambda: service_on_gpu(work / "pruned-run"),
        "ten-seeds": lambda: service_on_gpu(work / "ten-seeds-run", *unpruned, "--seeds", "10"),
        "plain": lambda: plain(1),
        "side-by-side": lambda: plain(processes),
        "optuna": lambda: optuna(work / "optuna-run", processes, limit_s),
        "ray": lambda: ray(work / "ray-run", processes, limit_s),
    }


def measure(options: GpuOptions) -> None:
    """Measure what a CUDA GPU does with the built-in study."""
    import torch

    with user_errors():
        if not torch.cuda.is_available():
            raise UsageError("torch sees no CUDA GPU here: run it on a machine with one")
        makes = makers(options.work, options.processes, options.limit)
        names = options.only.split(",") if options.only else list(makes)
        if wrong := [name for name in names if name not in makes]:
            raise UsageError(f"--only {wrong[0]}: choices are {', '.join(makes)}")
        stored = StoredMeasurements(options.work, makes)
        for name in names:
            shown = json.dumps(stored.measure(name))
            print(f"{name}: {shown[:2000]}", file=sys.stderr, flush=True)
        if options.only is None:
            page = markdown({name: stored.measure(name) for name in names}, stored.circumstances())
            print(page)
            if options.output is not None:
                options.output.write_text(page, encoding="utf-8")


app = new_program(measure, GpuOptions, [("the whole runs alone", "--only service,ten-seeds")])

if __name__ == "__main__":
    app()
