"""What the fresh seeds of a confirmation say: intervals, verdict, optimism, and the words for them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from finished_studies import completed, ended_study

from search.reporting.confirmation_text import sentences
from search.reporting.render import render
from search.statistics.answers import Verdict
from search.statistics.confirmation import ConfirmationResult, read_confirmation
from search.statistics.ranking import ranked_rows
from search.storage.database import Database
from search.storage.queue import TrialQueue
from search.strategies.confirming import plan_confirmation
from search.study.stored import read_stored_study

Ends = Mapping[str, Sequence[float | str]]


@pytest.fixture
def confirmed(tmp_path: Path) -> Iterator[Callable[..., Database]]:
    """Makes a study whose winner (block_size 16) and runner-up (8) have fresh seeds with given ends."""
    with ended_study(tmp_path, completed, seeds=2) as database:

        def make(winner: Sequence[float | str], runner_up: Sequence[float | str]) -> Database:
            ends = {16: iter(winner), 8: iter(runner_up)}
            plan_confirmation(database, "small", None, len(winner))
            queue = TrialQueue(database)
            for _ in range(2 * len(winner)):
                [lease] = queue.claim(["small-confirm"], "worker")
                end = next(ends[json.loads(lease.cell)["block_size"]])
                outcome = end if isinstance(end, str) else "complete"
                queue.finish(lease, outcome, None if isinstance(end, str) else end, {}, None)  # type: ignore[arg-type]
            return database

        yield make


def result_of(database: Database) -> ConfirmationResult:
    stored = read_stored_study(database, "small")
    assert stored is not None
    found = read_confirmation(database, stored, ranked_rows(database, ["small", "small-baselines"]))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("winner", "runner_up", "verdict"),
    [
        ([1.90, 1.92, 1.94], [2.00, 2.05, 2.01], Verdict.YES),
        ([2.00, 2.05, 2.01], [1.90, 1.92, 1.94], Verdict.OPPOSITE),
        ([1.90, 2.10, 1.94], [2.00, 2.05, 1.99], Verdict.CANNOT_TELL),
        ([1.90], [2.00], Verdict.CANNOT_TELL),
    ],
    ids=["clear", "the other way", "noise", "one seed"],
)
def test_the_difference_is_that_of_a_pooled_t_test(
    confirmed: Callable[..., Database], winner: list[float], runner_up: list[float], verdict: Verdict
) -> None:
    found = result_of(confirmed(winner, runner_up))
    assert found.verdict is verdict
    assert found.difference is not None
    assert found.difference.mean == pytest.approx(sum(runner_up) / len(runner_up) - sum(winner) / len(winner))
    if len(winner) == 1:
        assert found.difference.half is None
        return
    from scipy.stats import ttest_ind

    interval = ttest_ind(runner_up, winner).confidence_interval(0.95)
    half = (interval.high - interval.low) / 2
    assert found.difference.half == pytest.approx(half, rel=0.03)  # the noise model draws
    assert found.winner.value is not None
    assert found.winner.value.half == pytest.approx(half / math.sqrt(2))


def test_the_optimism_is_what_the_selected_mean_is_better_by(confirmed: Callable[..., Database]) -> None:
    database = confirmed([2.10, 2.12, 2.11], [2.3, 2.31, 2.32])
    found = result_of(database)
    assert found.winner.selected is not None
    assert found.optimism is not None
    assert found.optimism.mean == pytest.approx(2.11 - found.winner.selected)
    assert any("the selection has flattered it by" in sentence for sentence in sentences(found))


def test_a_diverged_seed_is_said(confirmed: Callable[..., Database]) -> None:
    found = result_of(confirmed([1.9, 1.91, "diverged"], [2.0, 2.01, 2.02]))
    assert (found.winner.seeds, found.winner.planned, found.winner.others) == (2, 3, {"diverged": 1})
    assert any("2 of 3 fresh seeds" in sentence and "1 diverged" in sentence for sentence in sentences(found))
    # Divergence is an outcome, and worse than any loss.
    assert found.verdict is Verdict.OPPOSITE


def test_every_format_has_the_confirmation(confirmed: Callable[..., Database]) -> None:
    database = confirmed([1.90, 1.92, 1.94], [2.00, 2.05, 2.01])
    names = ["small", "small-baselines"]
    markdown, page = render(database, names, "markdown"), render(database, names, "html")
    answer = "Yes: it is better by 0.1000"
    assert "## Confirmation" in markdown
    assert answer in markdown
    assert answer in page
    as_json: dict[str, Any] = json.loads(render(database, names, "json"))
    assert as_json["confirmation"]["verdict"] == "yes"
    assert as_json["confirmation"]["winner"]["seeds"] == 3
    # The confirming trials are no trials of the study.
    assert as_json["counts"]["complete"] == 8 * 2 + 2


def test_a_report_without_a_confirmation_says_nothing_of_one(tmp_path: Path) -> None:
    with ended_study(tmp_path, completed, seeds=2) as database:
        for format in ("markdown", "html", "json"):
            assert "onfirmation" not in render(database, ["small"], format)
