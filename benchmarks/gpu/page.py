"""The page of `benchmarks.gpu`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.gpu.card import Card
from benchmarks.gpu.lone_steps import LoneStep
from benchmarks.gpu.roofline import StepCost

NOT_MEASURED = "not measured"

HEADER = """# Benchmarks on a GPU

Made by `python -m benchmarks.gpu`. The work is the study `bigram` with its baselines: 38 trials of 5000 steps with one
seed, 380 with ten. Times are from the command to its end, start included.
"""

ROOFLINE = """
## What limits a step

A step of one stack alone. The limits are what its kernels would take if each took no longer than one addition in a
graph on this card, what its products would take at the card's rate for large ones in float32, and what its kernels read
and write would take at the speed of a large copy, without caches. The share is the largest limit by the time of the
step.

| shape | members | µs a step | kernels | their µs | kernels, µs | arithmetic, µs | memory, µs | share | memory taken |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""

LONE = """
## A run that trains alone

A step of a transformer with dropout 0.1, which is not stacked, with nothing else on the card. Operations are those of
its products and its attention ([how they are counted](research.md)).

| shape | way | µs a step | TFLOP/s |
| --- | --- | ---: | ---: |
"""

AGREEMENT = """
## CPU and GPU

The largest difference of the validation losses after 0, 100 and 200 steps, in nats, by learning rate.

| shape | 1e-3 | 1e-2 |
| --- | ---: | ---: |
"""


def markdown(figures: Mapping[str, Any], circumstances: Mapping[str, Mapping[str, Any]]) -> str:
    """The page.

    Args:
        figures: Of each measurement by its name; None or missing where there is none.
        circumstances: For each measurement: taken (UTC) and machine.
    """
    lines = [HEADER.strip(), "", *_whole_runs(figures)]
    if (card := figures.get("card")) is not None:
        card = Card(**card)
        lines += ["", *_card(card)]
        if steps := figures.get("steps"):
            lines += [ROOFLINE.rstrip("\n"), *(_step(StepCost(**step), card) for step in steps)]
    if lone := figures.get("lone"):
        lines += [LONE.rstrip("\n"), *(_lone(LoneStep(**each)) for each in lone)]
    if agreement := figures.get("agreement"):
        lines.append(AGREEMENT.rstrip("\n"))
        lines += [
            f"| {row['cell']} | {' | '.join(f'{each:.0e}' for each in row['differences'])} |" for row in agreement
        ]
    return "\n".join([*lines, "", *_taken(circumstances), ""])


def _whole_runs(figures: Mapping[str, Any]) -> list[str]:
    lines = ["| way | time | trials | GPU at work | GPU memory |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, way in (
        ("first", "this service, 38 trials, no pruning"),
        ("service", "the same once more"),
        ("pruned", "this service, 38 trials, default pruner"),
        ("ten-seeds", "this service, 380 trials, no pruning"),
    ):
        if (found := figures.get(name)) is not None:
            share, memory = f"{found['utilization']:.0%}", f"{found['memory_bytes'] / 1e9:.1f} GB"
            lines.append(f"| {way} | {_time(found['wall_s'])} | {found['trials']} | {share} | {memory} |")
    for name in ("plain", "side-by-side"):
        if (found := figures.get(name)) is not None:
            processes = "one run after the other" if found["processes"] == 1 else f"{found['processes']} processes"
            lines.append(f"| plain loop, {processes}, no pruning, estimated | {_time(found['wall_s'])} | 38 | | |")
    for name, way in (("optuna", "Optuna, GridSampler and MedianPruner"), ("ray", "Ray Tune, grid search")):
        found = figures.get(name)
        if found is None:
            lines.append(f"| {way} | {NOT_MEASURED} | | | |")
            continue
        is_whole = found.get("wall_s") is not None
        time = _time(found["wall_s"]) if is_whole else f"stopped after {_time(found['stopped_s'])}"
        trials = _ended(found) if is_whole else f"{found['trials']} ended, {found['running']} running"
        lines.append(f"| {way}, {found['processes']} processes, the plain loop | {time} | {trials} | | |")
    return lines


def _ended(found: Mapping[str, Any]) -> str:
    """How many trials there were; several processes of stock Optuna can train a cell twice."""
    more = {
        "pruned": found.get("pruned", 0),
        "of a cell once more": found["trials"] - found.get("cells", found["trials"]),
    }
    return ", ".join([str(found["trials"]), *(f"{count} {what}" for what, count in more.items() if count)])


def _card(card: Card) -> list[str]:
    streams = ", ".join(f"{us:.2f} with {count}" for count, us in card.node_us.items())
    return [
        f"The card, {card.name}: a copy reads and writes {card.copy_bytes_s / 1e12:.2f} TB/s, a large product makes",
        f"{card.float32_s / 1e12:.0f} TFLOP/s in float32, {card.tf32_s / 1e12:.0f} in TF32. A kernel of one addition",
        "that waits for the one before takes, in µs, by the number of graphs side by side:",
        f"{streams}.",
    ]


def _step(step: StepCost, card: Card) -> str:
    (_, node_us), *_ = sorted((int(streams), us) for streams, us in card.node_us.items())
    limits = step.limits_us(node_us, card.float32_s, card.copy_bytes_s)
    shown = " | ".join(f"{limits[name]:.0f}" for name in ("kernels", "arithmetic", "memory"))
    share = max(limits.values()) / step.step_us
    times = f"{step.step_us:.0f} | {step.kernels:.0f} | {step.busy_us:.0f}"
    return f"| {step.cell} | {step.runs} | {times} | {shown} | {share:.0%} | {step.peak_bytes / 1e9:.1f} GB |"


def _lone(step: LoneStep) -> str:
    rate = "" if step.flops_s is None else f"{step.flops_s / 1e12:.1f}"
    return f"| {step.cell} | {step.way} | {step.step_us:.0f} | {rate} |"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 180 else f"{seconds / 60:.1f} min"


def _taken(circumstances: Mapping[str, Mapping[str, Any]]) -> list[str]:
    machines = sorted({each["machine"] for each in circumstances.values()})
    lines = ["| measurement | started, UTC |", "| --- | --- |"]
    lines += [f"| {name} | {each['taken']} |" for name, each in circumstances.items()]
    return [*(f"Machine: {name}." for name in machines), "", *lines]
