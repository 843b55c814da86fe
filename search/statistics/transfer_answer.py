"""The answer to an analysis of the kind "transfer", in words, tables and charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from search.statistics.analysis import AnalysisResult, Chart, Series, Table, not_answerable
from search.statistics.measured import Measured
from search.statistics.slices import Slice
from search.statistics.transfer import Drift, Level, Transfer, transfer
from search.statistics.tuning import Choice
from search.study.analyses import Transfer as Settings
from search.study.formatting import count_text, loss_text, number_text
from search.study.metrics import Metric

KIND = "transfer"
YES, YES_DRIFTS, NO, OPEN = "yes", "yes, though it drifts", "no, it drifts", "cannot tell yet"
CURVE_PLACES, MOST_CURVES = 60, 7


def answer_transfer(settings: Settings, cells: Sequence[Measured], metric: Metric) -> AnalysisResult:
    """Whether the best value of an axis transfers along another one."""
    axis, along = settings.axis, settings.along
    question = settings.text or f"Is the best {axis} the same for every {along}?"
    found = transfer(cells, axis, along)
    if found is None:
        why = (
            f"No three cells with final values differ in {axis} alone."
            if any(each.is_complete for each in cells)
            else "No cell has a final value yet."
        )
        return not_answerable(KIND, question, why)
    verdict = _verdict(found.drift, settings.within)
    sentences = [*_drift_sentences(found, settings), *_choice_sentences(found, axis, along, metric)]
    return AnalysisResult(
        KIND,
        question,
        verdict if verdict in (OPEN, NO) else f"{verdict}: within a factor of {settings.within:g}",
        sentences,
        [
            _level_table(found.levels, axis, along),
            *_tuned_table(found, axis, along, metric),
            *_choice_table(found.choices, axis, along, metric),
        ],
        _charts(found, axis, along, metric),
        _warnings(found, axis, cells),
        _facts(found, settings),
    )


def _verdict(drift: Drift | None, within: float) -> str:
    if drift is None:
        return OPEN
    low, high = sorted((drift.low, drift.high))
    if 1 / within <= low and high <= within:
        return YES if low <= 1 <= high else YES_DRIFTS
    return OPEN if low <= 1 <= high else NO


def _drift_sentences(found: Transfer, settings: Settings) -> list[str]:
    axis, along, drift = settings.axis, settings.along, found.drift
    levels = [each.level for each in found.levels]
    if drift is None:
        return [f"Too few values of {along} have an optimum of {axis} between the values that were tried."]
    low, high = sorted((drift.low, drift.high))
    ends = f"from {along} {number_text(levels[0])} to {number_text(levels[-1])}"
    factor = f"a factor of {number_text(drift.factor)} [{number_text(low)}, {number_text(high)}]"
    power = f"It goes with {along} to the power {drift.slope:.2f} ± {drift.reach:.2f}."
    if low <= 1 <= high:
        what = f"Chance can explain the drift of the best {axis} {ends}, {factor}."
        return [what if high / low < 100 else f"The drift of the best {axis} {ends} is not known: {factor}.", power]
    if drift.factor > 1:
        return [f"The best {axis} grows by {factor} {ends}.", power]
    factor = f"a factor of {number_text(1 / drift.factor)} [{number_text(1 / high)}, {number_text(1 / low)}]"
    return [f"The best {axis} shrinks by {factor} {ends}.", power]


def _choice_sentences(found: Transfer, axis: str, along: str, metric: Metric) -> list[str]:
    if not found.choices:
        return []
    best = found.choices[0]
    return [
        f"One {axis} for all, {number_text(best.value)}, loses {loss_text(best.mean, 4)} ± {loss_text(best.reach, 4)} "
        f"of {metric.label} on average against the best of each, and at most {loss_text(best.worst, 4)}, at {along} "
        f"{number_text(best.worst_level)}."
    ]


def _level_table(levels: Sequence[Level], axis: str, along: str) -> Table:
    rows = [
        [
            number_text(each.level),
            "" if each.optimum is None else number_text(each.optimum),
            "" if each.optimum is None else f"{number_text(each.low)} to {number_text(each.high)}",
            f"{each.counts[0]} of {each.counts[1]}",
        ]
        for each in levels
    ]
    return Table(
        f"The best {axis} by {along}", [along, f"best {axis}", "95 % interval", "optima with an interval"], rows
    )


def _choice_table(choices: Sequence[Choice], axis: str, along: str, metric: Metric) -> list[Table]:
    rows = [
        [number_text(each.value), f"{loss_text(each.mean, 4)} ± {loss_text(each.reach, 4)}", loss_text(each.worst, 4),
         number_text(each.worst_level)]
        for each in choices
    ]  # fmt: skip
    titles = [axis, f"{metric.label} lost, mean", "at most", f"at {along}"]
    return [Table(f"What one {axis} for all loses", titles, rows)] if rows else []


def _warnings(found: Transfer, axis: str, cells: Sequence[Measured]) -> list[str]:
    warnings = []
    open_ones = sum(each.error is None for each in found.slices)
    if open_ones:
        warnings.append(
            f"{open_ones} of {count_text(len(found.slices), 'optimum', 'optima')} may lie beyond the values of {axis} "
            "that were tried, and are left out: add values."
        )
    if found.left_out[0]:
        warnings.append(
            f"{count_text(found.left_out[0], 'slice')} of cells with fewer than three values of {axis} left out."
        )
    if found.left_out[1]:
        warnings.append(
            f"{count_text(found.left_out[1], 'cell')} that were pruned, diverged, failed or have not ended left out."
        )
    if max(len(each.losses) for each in cells) == 1:
        warnings.append("Each cell has one seed: what smooth curves do not explain counts as noise.")
    if found.drift is not None and found.drift.spread > 1.5:
        warnings.append(
            f"Single optima differ from the line by a factor of {found.drift.spread:.2g} beyond their errors: the "
            "drift is no power law, or depends on other axes."
        )
    return warnings


def _charts(found: Transfer, axis: str, along: str, metric: Metric) -> list[Chart]:
    levels = sorted({each.level for each in found.slices})
    curves: list[Series] = []
    for style, level in enumerate(levels[:MOST_CURVES]):
        curves += _curve(_typical([each for each in found.slices if each.level == level]), metric, along, style)
    known = [each for each in found.levels if each.optimum is not None]
    closed = [each for each in known if each.low > 0 and each.high < math.inf]
    optima = Series(
        "optimum and 95 % interval",
        [each.level for each in closed],
        [each.optimum or 0.0 for each in closed],
        [each.low for each in closed],
        [each.high for each in closed],
    )
    drawn = [optima]
    if found.drift is not None and closed:
        middle = float(np.mean(np.log([each.optimum or 1.0 for each in closed])))
        center = float(np.mean(np.log([each.level for each in closed])))
        ends = [levels[0], levels[-1]]
        line = [math.exp(middle + found.drift.slope * (math.log(each) - center)) for each in ends]
        drawn.append(Series(f"power {found.drift.slope:.2f}", ends, line, is_line=True, style=1))
    charts = []
    if len(closed) > 1:
        charts.append(Chart(f"Best {axis} over {along}", along, f"best {axis}", drawn, log_y=True))
    rest = _typical(found.slices).rest
    shared = ", ".join(f"{name} {value}" for name, value in rest.items() if _varies(found.slices, name))
    where = f" Shown for {shared}." if shared else ""
    note = f"Points: means over the seeds. Lines: fitted near the lowest point. Rings: the optima.{where}"
    return [*charts, Chart(f"{metric.label} over {axis}", axis, metric.label, curves, note=note)]


def _varies(slices: Sequence[Slice], name: str) -> bool:
    return len({str(each.rest.get(name)) for each in slices}) > 1


def _typical(slices: Sequence[Slice]) -> Slice:
    """The slice with the lowest losses: of the longest training, and comparable between levels."""
    return min(slices, key=lambda each: float(each.points.mean.min()))


def _curve(one: Slice, metric: Metric, along: str, style: int) -> list[Series]:
    sign = metric.sign
    label = f"{along} {number_text(one.level)}"
    x, y = one.values.tolist(), (sign * one.points.mean).tolist()
    at = np.linspace(one.curve.points.at[0], one.curve.points.at[-1], CURVE_PLACES)
    heights = sign * (one.curve.weights(at) @ one.curve.points.mean)
    found = [
        Series(label, np.exp(at).tolist(), heights.tolist(), is_line=True, style=style),
        Series("", x, y, style=style),
    ]
    if one.curve.minimum is not None:
        lowest = float(sign * (one.curve.weights(np.array([one.curve.minimum])) @ one.curve.points.mean)[0])
        found.append(Series("", [math.exp(one.curve.minimum)], [lowest], is_ring=True, style=style))
    return found


def _facts(found: Transfer, settings: Settings) -> dict[str, object]:
    def finite(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    drift = found.drift
    return {
        "axis": settings.axis,
        "along": settings.along,
        "within": settings.within,
        "drift": None
        if drift is None
        else {
            "slope": drift.slope,
            "slope_reach": drift.reach,
            "factor": drift.factor,
            "interval": sorted((drift.low, drift.high)),
            "spread": drift.spread,
        },
        "levels": [
            {"level": each.level, "optimum": each.optimum, "low": finite(each.low), "high": finite(each.high)}
            for each in found.levels
        ],
        "optima": [
            {
                settings.along: each.level,
                **each.rest,
                "optimum": each.optimum,
                "low": finite(each.interval[0]),
                "high": finite(each.interval[1]),
            }
            for each in found.slices
        ],
        "tuned": [asdict(each) for each in found.tuned],
        "single_choices": [
            {"value": each.value, "lost": each.mean, "reach": each.reach, "worst": each.worst, "at": each.worst_level}
            for each in found.choices
        ],
    }


def _tuned_table(found: Transfer, axis: str, along: str, metric: Metric) -> list[Table]:
    rows = [
        [
            number_text(each.level),
            loss_text(metric.sign * each.untuned, 4),
            loss_text(metric.sign * each.tuned, 4),
            f"{loss_text(each.untuned - each.tuned, 4)} ± {loss_text(each.reach, 4)}",
            "" if each.gain is None else f"{loss_text(each.gain, 4)} ± {loss_text(each.gain_reach, 4)}",
        ]
        for each in found.tuned
    ]
    if not rows:
        return []
    titles = [along, f"at {axis} {number_text(found.choices[0].value)}", "at its own best", "gained by tuning"]
    return [
        Table(f"{metric.label} before and after tuning", [*titles, "own best, better than the one before by"], rows)
    ]
