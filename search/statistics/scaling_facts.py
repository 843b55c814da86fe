"""The numbers of an analysis of the kind "scaling", for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from search.statistics.scaling import HeldOut, ScalingResult
from search.statistics.scaling_tables import Predicted, exponent
from search.statistics.speed_up import SpeedUpResult


def scaling_facts(
    result: ScalingResult, predicted: Sequence[Predicted], faster: SpeedUpResult | None
) -> dict[str, Any]:
    """The law with its intervals, and what follows from it."""
    share = result.share
    return {
        "law": _law(result),
        "flops_per_parameter_and_token": result.per_product,
        "best_parameters_power": None if share is None else {"value": share[0], "interval": share[1:]},
        "iso_flop_minima": [
            {
                "flops": each.flops,
                "parameters": None if each.curve.minimum is None else math.exp(each.curve.minimum),
                "interval": [math.exp(end) if math.isfinite(end) else None for end in each.curve.interval],
            }
            for each in result.iso_flops
        ],
        "held_out": None if result.held_out is None else _held_out(result.held_out),
        "predictions": [
            {**dict(zip(result.quantities, each.at, strict=True)), **_interval(each)} for each in predicted
        ],
        "speed_up": None if faster is None else asdict(faster),
        "configurations": [
            {"parameters": each.parameters, "tokens": each.tokens, "flops": each.flops, "loss": each.loss}
            for each in result.configurations
        ],
    }


def _law(result: ScalingResult) -> dict[str, Any]:
    fit, law = result.fit, result.fit.law
    irreducible = {"value": float(law.irreducible[0]), "interval": fit.interval(lambda law: law.irreducible)}
    return {
        "irreducible": irreducible,
        "exponents": {
            name: {"value": float(law.exponents[0, at]), "interval": fit.interval(exponent(at))}
            for at, name in enumerate(result.quantities)
        },
        "factors": {name: float(law.factors[0, at]) for at, name in enumerate(result.quantities)},
        "spread": fit.spread,
    }


def _held_out(held: HeldOut) -> dict[str, Any]:
    lists = {name: getattr(held, name).tolist() for name in ("losses", "predicted", "low", "high")}
    return {"inside": held.inside, "of": len(held.losses), **lists}


def _interval(each: Predicted) -> dict[str, float]:
    return {"predicted": each.loss, "low": each.low, "high": each.high}
