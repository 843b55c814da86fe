"""Charts: round ticks, means over seeds, the layout of a grid, and colours that can be read."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.reporting.chart_range import parts_within, robust_range
from search.reporting.charts import (
    MOST_POINTS,
    Bar,
    Line,
    Point,
    beyond_note,
    line_chart,
    over_seeds,
    ticks,
    timeline,
)
from search.reporting.heatmaps import RAMP, MapAxes, choose_axes, contrast, heat_maps, ramp_colour, text_colour
from search.reporting.scatter import Dot, edge_note, log_ticks, scatter_chart
from search.statistics.ranking import Row

GRID: dict[str, list[Any]] = {"model": ["bigram_v2"], "block_size": [8, 64], "n_embd": [64, 128], "pe_type": ["a", "b"]}


def row(loss: float | None, state: str = "complete", interval: float | None = None, **cell: Any) -> Row:
    return Row(None, {"model": "bigram_v2", **cell}, state, (1, 1), loss, loss, 40, 7, 1.0, None, 640, interval)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_within_and_few(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 8
    assert all(low - span * 1e-6 <= value <= low + span * (1 + 1e-6) for value in found)


def test_ticks_are_round() -> None:
    assert ticks(0, 5000) == [0, 1000, 2000, 3000, 4000, 5000]
    assert ticks(2.31, 2.52) == [2.35, 2.4, 2.45, 2.5]
    assert ticks(3, 3) == [3]


def test_over_seeds_keeps_to_common_finite_steps() -> None:
    curves = [{0: 4.0, 10: 2.0, 20: 1.0}, {0: 4.2, 10: math.inf, 20: 1.5, 30: 1.0}]
    assert over_seeds(curves) == [Point(0, 4.1, 4.0, 4.2), Point(20, 1.25, 1.0, 1.5)]
    assert over_seeds([]) == []


def test_line_chart_is_well_formed_and_escaped() -> None:
    points = [Point(1, 2.0, 1.9, 2.1), Point(2, 1.5, 1.4, 1.6)]
    lines = [Line("<rope> & co", points), Line("one", points[:1])]
    image = line_chart(lines, 'a "title" <b>', "steps", "loss", reference=1.7)
    root = ElementTree.fromstring(image)
    assert root.find("title").text == 'a "title" <b>'  # type: ignore[union-attr]
    assert {element.tag for element in root} >= {"polyline", "polygon", "line", "text", "circle"}
    assert root.findall("line[@class='reference']")
    # The band of the line reaches from the highest to the lowest seed: y grows downwards.
    [band] = root.findall("polygon[@class='band c0']")
    ys = [float(pair.split(",")[1]) for pair in band.attrib["points"].split()]
    assert ys[0] < ys[-1]


def test_baseline_far_away_does_not_flatten_the_lines() -> None:
    image = line_chart([Line("a", [Point(1, 2.0, 2.0, 2.0), Point(2, 1.9, 1.9, 1.9)])], "t", "x", "y", reference=9.0)
    assert 'class="reference"' not in image


def test_one_bad_run_does_not_flatten_the_others() -> None:
    good = [Line(str(at), [Point(x, 2.0 + at / 10, 2.0, 2.2) for x in range(20)]) for at in range(3)]
    bad = Line("bad", [Point(x, 2.1 if x != 10 else 900.0, 2.1, 2.1 if x != 10 else 900.0) for x in range(20)])
    assert beyond_note(good) == ""
    assert beyond_note([*good, bad]) == "1 value is far outside, up to 900.000, and left out of the scale."
    image = line_chart([*good, bad], "t", "x", "y")
    shown = list(ElementTree.fromstring(image).iter("polyline"))
    assert len(shown) == 5  # the bad one in two parts, up to where it leaves the chart and from where it is back
    ys = [float(pair.split(",")[1]) for line in shown for pair in line.attrib["points"].split()]
    assert all(0 <= y <= 300 for y in ys)
    assert max(ys[:20]) - min(ys[40:60]) > 100  # and the good lines have the height


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_a_range_has_all_values_but_those_that_it_counts(values: list[float]) -> None:
    (low, high), beyond = robust_range(values)
    assert low < high
    assert sum(not low <= value <= high for value in values) == beyond
    assert beyond <= len(values) / 2


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30))
def test_parts_of_a_line_are_within(values: list[float]) -> None:
    parts = parts_within(list(enumerate(values)), -50.0, 50.0)
    assert all(-50.001 <= y <= 50.001 for part in parts for _, y in part)
    assert {x for x, y in enumerate(values) if abs(y) < 50} <= {x for part in parts for x, _ in part}


def test_long_lines_are_thinned() -> None:
    points = [Point(x, 1.0, 1.0, 1.0) for x in range(100_000)]
    image = line_chart([Line("a", points)], "t", "x", "y")
    [line] = ElementTree.fromstring(image).iter("polyline")
    assert MOST_POINTS / 2 <= len(line.attrib["points"].split()) <= MOST_POINTS


def test_a_dot_far_away_is_at_the_edge() -> None:
    dots = [Dot(float(at), 1 + at / 100, str(at)) for at in range(20)] + [Dot(20.0, 1e9, "far")]
    assert edge_note(dots) == "1 value lies far outside and at the edge."
    image = scatter_chart(dots, "t", "x", "y")
    heights = sorted(float(each.attrib["cy"]) for each in ElementTree.fromstring(image).iter("circle"))
    assert heights[-1] - heights[1] > 200
    whole = scatter_chart(dots, "t", "x", "y", shows_all=True)
    heights = sorted(float(each.attrib["cy"]) for each in ElementTree.fromstring(whole).iter("circle"))
    assert heights[-1] - heights[1] < 1


def test_timeline_has_a_path_for_each_outcome() -> None:
    bars = [Bar(at, at + 5, "pruned" if at % 2 else "complete") for at in range(10_000)]
    image = timeline(bars, "title")
    assert len(ElementTree.fromstring(image).findall("path")) == 2
    assert image.count("M") == 10_000
    assert len(image) < 400_000


@pytest.mark.parametrize(
    ("grid", "axes"),
    [
        (GRID, MapAxes("n_embd", "block_size", "pe_type")),
        ({"learning_rate": [0.1, 0.01], "model": ["a", "b"]}, MapAxes("learning_rate", None, "model")),
        ({"a": [1, 2], "b": [1, 2], "c": [1, 2]}, MapAxes("a", "b", "c")),
        ({"model": ["a", "b"]}, MapAxes(None, None, "model")),
        ({"flag": [True, False], "n_embd": [1, 2]}, MapAxes("n_embd", None, "flag")),
        ({"n_embd": [64]}, MapAxes(None, None, None)),
    ],
)
def test_choose_axes(grid: dict[str, list[Any]], axes: MapAxes) -> None:
    assert choose_axes(grid) == axes


def test_heat_maps_of_a_grid() -> None:
    rows = [
        row(2.0 + at / 10, interval=0.01, block_size=block_size, n_embd=n_embd, pe_type=pe_type)
        for at, (block_size, n_embd, pe_type) in enumerate((b, n, p) for b in (8, 64) for n in (64, 128) for p in "ab")
    ]
    rows[5] = row(1.0, "pruned", block_size=64, n_embd=64, pe_type="b")
    rows.append(row(0.5, block_size=8))  # a baseline, outside the grid
    found = heat_maps(rows, GRID)
    assert found is not None
    assert [each.heading for each in found.maps] == ["pe_type a", "pe_type b"]
    assert [found.best, found.worst] == pytest.approx([2.0, 2.7])
    titles = [each.text for each in ElementTree.fromstring(found.maps[1].image).iter("title")]
    assert "pe_type b, n_embd 64, block_size 8: 2.1000 ± 0.010" in titles
    assert "pe_type b, n_embd 64, block_size 64: no final loss" in titles
    assert found.notes == ["A dash: no trial of the cell is complete."]


def test_tile_is_the_best_over_axes_that_are_not_shown() -> None:
    grid: dict[str, list[Any]] = {"n_embd": [1, 2], "block_size": [1, 2], "lr": [0.1, 0.2], "wd": [0.0, 0.1]}
    rows = [
        row(2.0 + lr + wd, n_embd=n, block_size=b, lr=lr, wd=wd)
        for n in (1, 2)
        for b in (1, 2)
        for lr in (0.1, 0.2)
        for wd in (0.0, 0.1)
    ]
    found = heat_maps([replace(each, cell={**each.cell}) for each in rows], grid)
    assert found is not None
    assert found.notes == ["A tile shows the best cell over wd."]
    assert [found.best, found.worst] == pytest.approx([2.1, 2.2])


def test_no_heat_map_without_numbers_or_final_losses() -> None:
    assert heat_maps([row(2.0, model="a")], {"model": ["a", "b"]}) is None
    pruned = row(2.0, "pruned", block_size=8, n_embd=64, pe_type="a")
    assert heat_maps([pruned], GRID) is None


@given(st.floats(0, 1))
def test_text_on_a_tile_can_be_read(share: float) -> None:
    # WCAG 2.2, level AA, asks for 4.5.
    colour = ramp_colour(share)
    assert contrast(colour, text_colour(colour)) >= 4.5


def test_ramp_darkens_evenly() -> None:
    lightness = [contrast(ramp_colour(at / 20), "#000000") for at in range(21)]
    assert lightness == sorted(lightness, reverse=True)
    assert (ramp_colour(0), ramp_colour(1)) == (RAMP[0], RAMP[-1])


def test_dots_on_a_logarithmic_axis_and_on_named_places() -> None:
    dots = [Dot(10.0**at, float(at), f"cell {at}", is_marked=at == 2) for at in range(-5, 0)]
    image = scatter_chart(dots, "t", "rate", "error", line=[(1e-5, 1.0), (1e-1, 0.5)], x_is_log=True)
    assert image.count("<circle") == 5
    assert all(f">{text}</text>" in image for text in ("1e-05", "0.001", "0.1"))
    named = scatter_chart([Dot(0.0, 1e200, "<a>")], "t", "kind", "error", x_names={0.0: "<a>"})
    assert ">&lt;a&gt;</text>" in named
    assert "nan" not in named


@pytest.mark.parametrize(("x_is_log", "y_is_log"), [(False, False), (True, False), (False, True), (True, True)])
def test_dots_of_any_finite_size(x_is_log: bool, y_is_log: bool) -> None:
    dots = [Dot(1.7e308, 1e-300, "a"), Dot(3.0, 1.7e308, "b")]
    dots += [] if x_is_log or y_is_log else [Dot(-1.7e308, -1e308, "c")]
    image = scatter_chart(dots, "t", "x", "y", x_is_log=x_is_log, y_is_log=y_is_log, shows_all=True)
    assert image.count("<circle") == len(dots)
    assert not {"nan", "inf"} & {*re.findall(r"[a-z]+", image)}


def test_logarithmic_ticks_are_round() -> None:
    assert log_ticks(-5.0, -1.0) == [-5.0, -4.0, -3.0, -2.0, -1.0]
    assert [round(10**at, 6) for at in log_ticks(-2.1, -0.9)] == [0.01, 0.03, 0.1]
    assert [round(10**at, 6) for at in log_ticks(0.0, 0.8)] == [1.0, 2.0, 5.0]
