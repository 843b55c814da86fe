"""The tables of an analysis of the kind "scaling", and what it predicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from search.statistics.analysis import Table
from search.statistics.configurations import PARAMETERS, TOKENS
from search.statistics.inference import Floats
from search.statistics.power_law import Law, LawFit
from search.statistics.scaling import ScalingResult, frontier
from search.study.analyses import Prediction
from search.study.formatting import number_text
from search.study.metrics import Metric

LETTERS = {PARAMETERS: ("A", "α"), TOKENS: ("B", "β")}


@dataclass(frozen=True)
class Predicted:
    """A predicted loss.

    Attributes:
        at: The quantities of the law.
        loss: Of the law.
        low, high: Between which a configuration lies with 95 %.
    """

    at: Sequence[float]
    loss: float
    low: float
    high: float


def predictions(asked: Sequence[Prediction], result: ScalingResult) -> list[Predicted]:
    """Predict losses; a quantity that is not given is the largest one of the study."""
    largest = dict(zip(result.quantities, result.fit.x.max(axis=0), strict=True))
    places = [[float(getattr(each, name) or largest[name]) for name in result.quantities] for each in asked]
    if not places:
        return []
    found = result.fit.predict(np.array(places))
    return [
        Predicted(at, float(loss), float(low), float(high)) for at, loss, low, high in zip(places, *found, strict=True)
    ]


def scaling_tables(result: ScalingResult, predicted: Sequence[Predicted], metric: Metric) -> list[Table]:
    """The law, iso-FLOP minima, the largest size predicted, and sizes that were not trained."""
    return [
        _law_table(result),
        *_iso_table(result),
        *_held_out_table(result),
        *_prediction_table(result, predicted, metric),
    ]


def exponent(at: int) -> Callable[[Law], Floats]:
    """A function that gives the power of a term of laws."""
    return lambda law: np.asarray(law.exponents[:, at])


def _law_table(result: ScalingResult) -> Table:
    fit, law = result.fit, result.fit.law
    rows = [_law_row("E, irreducible", fit, lambda law: law.irreducible, law.irreducible[0])]
    for at, name in enumerate(result.quantities):
        factor, power = LETTERS[name]
        rows.append(_law_row(f"{power}, power of {name}", fit, exponent(at), law.exponents[0, at]))
        rows.append(_law_row(f"{factor}, factor of {name}", fit, _factor(at), law.factors[0, at]))
    return Table("The law", ["parameter", "value", "95 % interval"], rows)


def _factor(at: int) -> Callable[[Law], Floats]:
    return lambda law: np.asarray(law.factors[:, at])


def _law_row(name: str, fit: LawFit, of: Callable[[Law], Floats], value: float) -> list[str]:
    low, high = fit.interval(of)
    return [name, f"{value:.4g}", f"{low:.4g} to {high:.4g}"]


def _iso_table(result: ScalingResult) -> list[Table]:
    rows = []
    for each in result.iso_flops:
        low, high = (math.exp(end) if math.isfinite(end) else end for end in each.curve.interval)
        minimum = each.curve.minimum
        assert result.per_product is not None
        best, _ = frontier(result.fit, np.array([each.flops]), result.per_product)
        rows.append(
            [
                number_text(each.flops),
                "" if minimum is None else number_text(math.exp(minimum)),
                f"{number_text(max(low, 0.0))} to {number_text(high)}",
                number_text(float(best[0, 0])),
            ]
        )
    titles = ["FLOPs", "best parameters, measured", "95 % interval", "by the law"]
    return [Table("Iso-FLOP minima", titles, rows)] if rows else []


def _held_out_table(result: ScalingResult) -> list[Table]:
    held = result.held_out
    if held is None:
        return []
    rows = [
        [*(number_text(value) for value in at), f"{loss:.4f}", f"{predicted:.4f}", f"{low:.4f} to {high:.4f}"]
        for at, loss, predicted, low, high in zip(
            held.x.tolist(), held.losses, held.predicted, held.low, held.high, strict=True
        )
    ]
    titles = [*result.quantities, "measured", "predicted", "95 % interval"]
    return [Table("The largest size, predicted from the others", titles, rows)]


def _prediction_table(result: ScalingResult, predicted: Sequence[Predicted], metric: Metric) -> list[Table]:
    titles = [*result.quantities, f"predicted {metric.label}", "95 % interval"]
    rows = [
        [*map(number_text, each.at), f"{each.loss:.4f}", f"{each.low:.4f} to {each.high:.4f}"] for each in predicted
    ]
    return [Table("Sizes that were not trained", titles, rows)] if rows else []
