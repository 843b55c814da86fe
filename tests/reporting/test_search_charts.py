"""Charts of studies with several objectives and constraints, on the page and for the dashboard; no report is lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution
from plotly.graph_objects import Figure
from study_files import opened
from trained_studies import trained

from search.reporting.progress import Snapshot, end_line, summary_line
from search.reporting.render import render
from search.reporting.report_data import read_report_data
from search.reporting.search_dots import MOST_PAIRS, objective_pairs
from search.statistics.pareto import pareto_front
from search.statistics.ranking import ranked_rows
from search.storage.database import Database
from search.study.metrics import Metric
from search.study.stored import read_stored_study
from search.web.dashboard_publisher import plots

TRIALS = 9


CONSTRAINED = """
def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    trial.set_constraint("first", (trial.number % 3 == 0) - 0.5)
    n = trial.number
    return [float(n), float(-n % 5), float(n % 2), 1.0][:{n}]
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Callable[[int], Database]]:
    """Makes a finished study with some objectives; each third trial is infeasible."""
    found: list[Database] = []

    def make(n: int) -> Database:
        head = f"directions = {['minimize'] * n}\ntrials = {TRIALS}\nsampler = 'random'"
        found.append(opened(trained(tmp_path, CONSTRAINED.format(n=n), head)))
        return found[-1]

    yield make
    for each in found:
        each.engine.dispose()


def search_section(page: str) -> str:
    return page.split('<section id="search">')[1].split("</section>")[0]


def test_infeasible_trials_are_hollow_and_no_dominated_one_is_called_the_best(
    database: Callable[[int], Database],
) -> None:
    two = database(2)
    rows = ranked_rows(two, ["pareto"])
    n_front, infeasible = sum(row.on_front is True for row in rows), TRIALS // 3
    section = search_section(render(two, ["pareto"], "html"))
    assert section.count("Pareto front: value_1 against value_0") >= 1
    front, so_far, *others = section.split("<figure")[1:]
    assert front.count('class="ring c0"') == infeasible + 1  # and one in the legend
    assert front.count('class="dot c1"') == n_front + 1
    assert front.count('class="dot c0"') == TRIALS - infeasible - n_front + 1
    assert "on the Pareto front</li>" in front
    assert "infeasible: violates a constraint</li>" in front
    assert so_far.count('class="ring c0"') == infeasible + 1
    assert not any("ring c0" in each for each in others)  # only ranked cells
    snapshot = Snapshot(two, ["pareto"], [Metric("value_0"), Metric("value_1")])
    assert snapshot.n_front == n_front
    assert summary_line(snapshot, 0) == f"9/9 done; 9 complete; {n_front} trials on the Pareto front"
    leaders = {tuple(row.values) for row in rows if row.on_front}
    assert {tuple(snapshot.values(trial)) for trial in snapshot.ranked[:n_front]} == leaders
    assert end_line(snapshot.ranked[0], 1, snapshot).startswith("[1/9] complete value_0 1.0000, value_1 4.0000  ")


def test_the_dashboard_gets_the_same_charts(database: Callable[[int], Database]) -> None:
    three = database(3)
    rows = ranked_rows(three, ["pareto"])
    published = plots(three, ["pareto"], rows)
    assert {"pareto-front", "best-so-far"} <= published.keys()
    for figure in published.values():
        Figure(figure)  # plotly refuses what it does not know
    hollow = [each for each in published["pareto-front"]["data"] if each["marker"].get("symbol") == "circle-open"]
    assert [len(each["x"]) for each in hollow] == [TRIALS // 3] * 3
    assert [each["showlegend"] for each in hollow] == [True, False, False]
    best = {each["name"]: each["y"] for each in published["best-so-far"]["data"]}
    # The first trial, which has the lowest value, is infeasible.
    assert (min(best["infeasible: violates a constraint"]), min(best["best so far"])) == (0.0, 1.0)


def test_each_pair_of_objectives_has_a_panel(database: Callable[[int], Database]) -> None:
    section = search_section(render(database(3), ["pareto"], "html"))
    assert "Pareto front, by pairs of objectives" in section
    pairs = ["value_1 against value_0", "value_2 against value_0", "value_2 against value_1"]
    assert re.findall("<h4>(.*?)</h4>", section) == pairs
    assert "left out" not in section


def test_of_many_objectives_some_pairs_are_left_out_which_is_said(tmp_path: Path) -> None:
    source = CONSTRAINED.format(n=4).replace("1.0][:4]", "1.0, 2.0]")
    url = trained(tmp_path, source, f"directions = {['maximize'] * 5}\ntrials = 4\nsampler = 'random'")
    with opened(url).closing() as database:
        stored = read_stored_study(database, "pareto")
        assert stored is not None
        pairs, left_out = objective_pairs(ranked_rows(database, ["pareto"]), stored.definition.metrics)
        assert (len(pairs), left_out) == (MOST_PAIRS, 10 - MOST_PAIRS)
        assert "4 further pairs are left out." in search_section(render(database, ["pareto"], "html"))
        title = plots(database, ["pareto"], ranked_rows(database, ["pareto"]))["pareto-front"]["layout"]["title"]
        assert "4 further pairs of objectives left out" in title["text"]


SUGGESTING = """
def objective(trial):
    rate, width = trial.suggest_float("rate", 1e-3, 1e-1, log=True), trial.suggest_int("width", 8, 64)
    return abs(width - 30) + rate
"""


def test_axes_that_an_objective_suggests_have_its_scales_and_importances(tmp_path: Path) -> None:
    """Though the study file names no axis: two decades are drawn as the objective samples them."""
    url = trained(tmp_path, SUGGESTING, "trials = 30\nsampler = 'random'", "suggesting")
    with opened(url).closing() as database:
        data = read_report_data(database, ["suggesting"], with_trials=True)
        rate, width = data.distributions["rate"], data.distributions["width"]
        assert isinstance(rate, FloatDistribution)
        assert rate.log
        assert isinstance(width, IntDistribution)
        assert not width.log
        section = search_section(render(database, ["suggesting"], "html"))
    assert "Which axes matter" in section
    against = section.split("value against rate</h3>")[1].split("<h3>")[0]
    assert "0.01" in re.findall(r"<text[^>]*>([^<]*)</text>", against)


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, 2.0, np.inf])] * n))))
def test_the_front_is_what_nothing_dominates(losses: list[tuple[float, ...]]) -> None:
    def dominates(one: Any, other: Any) -> bool:
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    assert pareto_front(losses) == [not any(dominates(one, each) for one in losses) for each in losses]


STEPS = """
from optuna import TrialPruned

def objective(params):
    for step in range(2):
        if step and params["x"] > 1:
            raise TrialPruned
        yield step, params["x"] + step
"""


def test_a_report_at_step_0_counts(tmp_path: Path) -> None:
    url = trained(tmp_path, STEPS, "metric = 'error'\n[grid]\nx = [1, 2]", "early")
    with opened(url).closing() as database:
        markdown, page = (render(database, ["early"], form) for form in ("markdown", "html"))
    assert "pruned, error at step 0 " in markdown
    assert "<td>pruned, error at step 0</td>" in page
    assert "before the first step" not in page
    [line] = re.findall('<polyline class="line c0" points="(.*?)"', page)[:1]
    assert len(line.split()) == 2  # a point for step 0 and one for step 1
