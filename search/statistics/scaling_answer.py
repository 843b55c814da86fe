"""The answer to an analysis of the kind "scaling", in words, tables and charts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.statistics.analysis import AnalysisResult, not_answerable
from search.statistics.configurations import (
    FLOPS_PER_PARAMETER,
    PARAMETERS,
    TOKENS,
    Configuration,
    Names,
    configurations,
)
from search.statistics.measured import Measured
from search.statistics.power_law import LawFit
from search.statistics.scaling import ScalingResult, fit_scaling, frontier
from search.statistics.scaling_charts import scaling_charts
from search.statistics.scaling_facts import scaling_facts
from search.statistics.scaling_tables import Predicted, exponent, predictions, scaling_tables
from search.statistics.speed_up import SpeedUpResult, speed_up
from search.study.analyses import Scaling
from search.study.formatting import count_text, loss_text, number_text
from search.study.metrics import Metric

KIND = "scaling"
SYMBOLS = {PARAMETERS: "N", TOKENS: "D"}
# Below these the data can hardly tell a law.
LEAST_SPAN, LEAST_VALUES, FAR = 8.0, 4, 10.0
NOTHING = 0.01  # of the lowest loss: less cannot be told from 0


def answer_scaling(settings: Scaling, cells: Sequence[Measured], metric: Metric) -> AnalysisResult:
    """How the metric falls with parameters, tokens and compute."""
    question = settings.text or f"How does the {metric.label} fall with size and training?"
    found = configurations(cells, Names(settings.tune, settings.parameters, settings.tokens, settings.flops))
    if fault := _fault(found, settings):
        return not_answerable(KIND, question, fault)
    result = fit_scaling(found)
    if result is None:
        return not_answerable(KIND, question, _too_few(found))
    predicted = predictions(settings.predict, result)
    faster = _speed_up(settings, found)
    sentences = [
        *_law_sentences(result, metric),
        *_compute_sentences(result, settings),
        *_held_out_sentences(result),
        *(_speed_sentence(settings, faster) if settings.speed_up is not None else []),
    ]
    return AnalysisResult(
        KIND,
        question,
        _law_text(result.fit, result.quantities),
        sentences,
        scaling_tables(result, predicted, metric),
        scaling_charts(result, metric),
        _warnings(result, settings, predicted),
        scaling_facts(result, predicted, faster),
    )


def _fault(found: Sequence[Configuration], settings: Scaling) -> str:
    if not found:
        return "No cell has a final value yet."
    lowest = min(each.loss for each in found)
    if lowest <= 0:
        return (
            f"A law needs values above 0 of which lower ones are better, and the lowest loss is {loss_text(lowest, 4)}."
        )
    for name in (settings.parameters, settings.tokens, settings.flops):
        if name is not None and all(name not in each.measured.quantities for each in found):
            return f"Trials have no number {name}: name an axis or a metric that the objective reports."
    return ""


def _too_few(found: Sequence[Configuration]) -> str:
    counts = [f"{len({getattr(each, name) for each in found if getattr(each, name)})} of {name}" for name in SYMBOLS]
    return (
        "A law needs three values of parameters or tokens and two more configurations than it has parameters; there "
        f"are {len(found)} configurations with {' and '.join(counts)}."
    )


def _law_text(fit: LawFit, quantities: Sequence[str]) -> str:
    law = fit.law
    terms = [
        f"{size:.3g} ({SYMBOLS[name]}/{number_text(center)})^-{exponent:.3g}"
        for name, size, center, exponent in zip(quantities, law.sizes[0], law.center, law.exponents[0], strict=True)
    ]
    if not _is_nothing(fit, float(law.irreducible[0])):
        terms.insert(0, f"{law.irreducible[0]:.3g}")
    return f"L({', '.join(SYMBOLS[name] for name in quantities)}) = {' + '.join(terms)}"


def _law_sentences(result: ScalingResult, metric: Metric) -> list[str]:
    fit = result.fit
    names = " and ".join(f"{SYMBOLS[name]} {name}" for name in result.quantities)
    found = [
        f"The {metric.label} of {count_text(len(fit.losses), 'configuration')} falls by this law with {names}; one "
        f"configuration differs from it by {fit.spread:.2%} typically.".replace("%", " %")
    ]
    low, high = fit.interval(lambda law: law.irreducible)
    if _is_nothing(fit, low):
        found.append(f"What no size or training removes is at most {loss_text(high, 3)}, and may be nothing.")
    else:
        irreducible = loss_text(float(fit.law.irreducible[0]), 3)
        found.append(f"What no size or training removes is {irreducible} [{loss_text(low, 3)}, {loss_text(high, 3)}].")
    return found


def _is_nothing(fit: LawFit, irreducible: float) -> bool:
    return irreducible < NOTHING * float(fit.losses.min())


def _counted(settings: Scaling, result: ScalingResult) -> str:
    if settings.flops is not None:
        return f"Compute is {settings.flops}, {result.per_product:.3g} N D on average."
    return f"Compute is C = {FLOPS_PER_PARAMETER:g} N D floating-point operations, without attention scores."


def _compute_sentences(result: ScalingResult, settings: Scaling) -> list[str]:
    share = result.share
    if share is None or result.per_product is None:
        return []
    value, low, high = share
    exponents = result.fit.law.exponents[0]
    power = float(exponents.prod() / exponents.sum())
    powers = result.fit.interval(lambda law: law.exponents.prod(axis=1) / law.exponents.sum(axis=1))
    return [
        f"Compute is spent best with parameters that grow as C^{value:.2f} [{low:.2f}, {high:.2f}] and tokens as "
        f"C^{1 - value:.2f}; the reducible loss then falls as C^-{power:.3f} [{powers[0]:.3f}, {powers[1]:.3f}]. "
        + _counted(settings, result)
    ]


def _held_out_sentences(result: ScalingResult) -> list[str]:
    held = result.held_out
    if held is None:
        return ["Too few configurations are left without the largest size to check a prediction of it."]
    wrong = float(np.max(np.abs(held.losses / held.predicted - 1)))
    size = f"{result.quantities[0]} {number_text(float(held.x[0, 0]))}"
    return [
        f"Check: a law fitted without the largest size ({size}) predicts it within {wrong:.1%}; ".replace("%", " %")
        + f"{held.inside} of {len(held.losses)} losses are inside of their 95 % intervals."
    ]


def _speed_up(settings: Scaling, found: Sequence[Configuration]) -> SpeedUpResult | None:
    asked = settings.speed_up
    if asked is None:
        return None
    of, over = (
        [each for each in found if each.measured.cell.get(asked.axis) == value] for value in (asked.of, asked.over)
    )
    return speed_up(of, over)


def _speed_sentence(settings: Scaling, faster: SpeedUpResult | None) -> list[str]:
    asked = settings.speed_up
    assert asked is not None
    if faster is None:
        return [
            f"The speed-up of {asked.axis} {asked.of} over {asked.over} is not known: a law of each needs more sizes."
        ]
    what = {"flops": "compute"}.get(faster.quantity, faster.quantity)
    clear = "" if faster.low > 1 or faster.high < 1 else " Chance can explain the difference."
    return [
        f"For the loss {loss_text(faster.loss, 3)} {asked.axis} {asked.over} needs {number_text(faster.factor)} "
        f"[{number_text(faster.low)}, {number_text(faster.high)}] times the {what} of {asked.axis} {asked.of}.{clear}"
    ]


def _warnings(result: ScalingResult, settings: Scaling, predicted: Sequence[Predicted]) -> list[str]:
    fit, found = result.fit, []
    for at, name in enumerate(result.quantities):
        values = fit.x[:, at]
        span, count = float(values.max() / values.min()), len(set(values.tolist()))
        if span < LEAST_SPAN or count < LEAST_VALUES:
            found.append(f"The {name} have {count} values over a factor of {span:.3g}: hardly enough for a law.")
        low, high = fit.interval(exponent(at))
        if high > 2 * low:
            found.append(f"The power of {name} is known within a factor of {high / low:.2g} only.")
    low, high = fit.interval(lambda law: law.irreducible)
    if low < 0.5 * float(fit.law.irreducible[0]) or high - low > 0.3 * float(fit.losses.min()):
        found.append("The data hardly tell the irreducible loss: longer training or larger sizes would.")
    found += _disagreement(result)
    at_end = sum(each.at_end for each in result.configurations)
    if at_end:
        found.append(
            f"The best {settings.tune} of {at_end} of {count_text(len(result.configurations), 'configuration')} is the "
            "first or last of its values: their losses may be too high."
        )
    largest = fit.x.max(axis=0)
    if any((np.array(each.at) > FAR * largest).any() for each in predicted):
        found.append(f"A prediction is for more than {FAR:g} times the largest size or training: the law may not hold.")
    return found


def _disagreement(result: ScalingResult) -> list[str]:
    """Whether the law and the iso-FLOP minima name different sizes."""
    if result.per_product is None or not result.iso_flops:
        return []
    best, _ = frontier(result.fit, np.array([each.flops for each in result.iso_flops]), result.per_product)
    ends = [each.curve.interval for each in result.iso_flops]
    sizes = result.fit.x[:, 0]
    outside = sum(
        not (low <= np.log(size) <= high and sizes.min() <= size <= sizes.max())
        for size, (low, high) in zip(best[0], ends, strict=True)
    )
    if 2 * outside <= len(ends):
        return []
    return [
        f"The best parameters by the law lie outside of the measured intervals or sizes at {outside} of {len(ends)} "
        "amounts of compute: the law does not hold there, and the iso-FLOP minima are what was measured."
    ]
