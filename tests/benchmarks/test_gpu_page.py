"""The page of `benchmarks.gpu`, from figures as its measurements return them."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks.gpu.card import Card
from benchmarks.gpu.lone_steps import LoneStep
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


def test_steps_of_runs_alone() -> None:
    steps = [LoneStep("gpt", "float32, graph", 1017.2, 4.53e12), LoneStep("gpt", "bfloat16, graph", 905.0, None)]
    page = markdown({"lone": [asdict(step) for step in steps]}, {})
    assert "| gpt | float32, graph | 1017 | 4.5 |\n| gpt | bfloat16, graph | 905 |  |" in page


def test_what_optuna_did_twice() -> None:
    whole = {"wall_s": 125.0, "trials": 50, "pruned": 34, "cells": 38, "processes": 8}
    ray = {"wall_s": 283.4, "trials": 38, "processes": 8}
    page = markdown({"optuna": whole, "ray": ray}, {})
    assert "the plain loop | 125.0 s | 50, 34 pruned, 12 of a cell once more |" in page
    assert "the plain loop | 4.7 min | 38 |" in page


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
