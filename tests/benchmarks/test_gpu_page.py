"""The page of `benchmarks.gpu`, from figures as its measurements return them."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks.gpu.card import Card
from benchmarks.gpu.page import markdown
from benchmarks.gpu.roofline import StepCost

CARD = Card("a card", {1: 1.0, 16: 0.25}, 2e12, 50e12, 400e12)
STEP = StepCost("bigram block_size=8", 10, 200.0, 60.0, 180.0, 10**9, 10**8, 2 * 10**9)
RUN = {"wall_s": 19.5, "trials": 38, "utilization": 0.64, "memory_bytes": 4.6e9}


def test_limits_and_the_share_of_the_largest() -> None:
    assert STEP.limits_us(1.0, 50e12, 2e12) == {"kernels": 60.0, "arithmetic": 20.0, "memory": 50.0}
    page = markdown({"card": asdict(CARD), "steps": [asdict(STEP)]}, {})
    assert "| bigram block_size=8 | 10 | 200 | 60 | 180 | 60 | 20 | 50 | 30% | 2.0 GB |" in page
    assert "1.00 with 1, 0.25 with 16." in page


def test_what_was_stopped_or_not_measured_says_so() -> None:
    stopped = {"stopped_s": 80.0, "trials": 42, "running": 8, "processes": 8}
    plain = {"wall_s": 1146.0, "processes": 1}
    taken = {"first": {"taken": "2026-11-26 17:22", "machine": "a machine"}}
    page = markdown({"first": RUN, "optuna": stopped, "ray": None, "plain": plain}, taken)
    assert "| this service, 38 trials, no pruning | 19.5 s | 38 | 64% | 4.6 GB |" in page
    assert "stopped after 80.0 s | 42 ended, 8 running |" in page
    assert "| Ray Tune, grid search | not measured |" in page
    assert "| plain loop, one run after the other, no pruning, estimated | 19.1 min | 38 |" in page
    assert "default pruner |" not in page.split("Optuna")[0]
    assert "| first | 2026-11-26 17:22 |" in page
