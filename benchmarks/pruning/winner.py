"""Which of the measured curves of the truly best cell a pruner keeps, and what that says about curves not measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from benchmarks.pruning.curves import Curves
from benchmarks.pruning.draws import ORDERS, Order, draw_queues
from benchmarks.pruning.replay import Bools, Floats, Rule, replay


def kept_shares(curves: Curves, rule: Rule, draws: int, workers: int, order: Order) -> Floats:
    """How often each curve of the best cell is trained to its end (K',), where each has equally many of the draws."""
    best = int(curves.true_losses.argmin())
    own = curves.val_loss[best, curves.measured[best]]
    each = max(1, draws // len(own))
    queues = draw_queues(curves, each * len(own), 1, order)
    is_best = queues.cells == best
    values = queues.values.copy()
    values[is_best] = np.tile(own, (each, 1))
    outcome = replay(replace(queues, values=values), rule, workers)
    shares: Floats = (~outcome.pruned[is_best]).reshape(each, len(own)).mean(0)
    return shares


def never_pruned(curves: Curves, keep: int, warmup_steps: int) -> Bools:
    """Which curves of the best cell `top` keeps with one seed a cell, whatever the others draw, in any order (K',).

    At no step that is judged can `keep` other cells have been better, each with the best of its measured curves.
    """
    so_far = np.fmin.accumulate(curves.val_loss, axis=2)
    best = int(curves.true_losses.argmin())
    own = so_far[best, curves.measured[best]]
    others = np.nanmin(np.delete(so_far, best, axis=0), axis=1)
    better = (others[None] < own[:, None]).sum(1)
    is_judged = (curves.steps >= warmup_steps) & (curves.steps < curves.steps[-1])
    kept: Bools = (better[:, is_judged] < keep).all(1)
    return kept


def highest_risk(lost: int, curves: int, confidence: float = 0.95) -> float:
    """The one-sided bound of the chance that a curve is lost, when `lost` of `curves` were (Clopper and Pearson, 1934).

    It is the chance at which `lost` or fewer would be seen in only `1 - confidence` of all such measurements.
    """
    from scipy.special import betaincinv

    return 1.0 if lost == curves else float(betaincinv(lost + 1, curves - lost, confidence))


def winner_table(curves: Curves, pruners: Mapping[str, Callable[[], Rule]], draws: int, workers: int) -> Iterator[str]:
    """For each pruner and order: how many curves of the best cell survive every draw, and the share of the draws."""
    yield f"| pruner | {' | '.join(ORDERS)} | every draw of every order | risk at most |"
    yield "| --- |" + " ---: |" * (len(ORDERS) + 2)
    for name, make in pruners.items():
        shares = [kept_shares(curves, make(), draws, workers, order) for order in ORDERS]  # type: ignore[arg-type]
        always = int((np.min(shares, axis=0) == 1).sum())
        told = " | ".join(f"{(each == 1).sum()}, {each.mean():.1%}" for each in shares)
        risk = highest_risk(len(shares[0]) - always, len(shares[0]))
        yield f"| {name} | {told} | {always} of {len(shares[0])} | {risk:.0%} |"
