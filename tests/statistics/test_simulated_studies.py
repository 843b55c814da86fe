"""Simulated studies: table and verdicts name one best cell, and pruning turns no verdict round."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from benchmarks.pruning.curves import load_curves
from benchmarks.pruning.draws import draw_queues
from benchmarks.pruning.replay import replay
from benchmarks.pruning.rules import TopCellsRule
from benchmarks.verdicts.__main__ import HEADS, line
from benchmarks.verdicts.policies import POLICIES
from benchmarks.verdicts.scores import PAIRS, scores
from benchmarks.verdicts.worlds import NULL_WORLDS, WORLDS
from search.statistics.answers import Verdict
from search.statistics.losses import Losses
from search.statistics.ranking import Row, ranked
from search.statistics.verdicts import Verdicts, decide
from search.storage.values import canonical
from search.study.claims import Claim

CLAIMS = [Claim(factor=each.factor, order=[each.one, each.other]) for each in PAIRS]


def table_of(losses: Losses) -> list[Row]:
    """The ranked table of a study of which nothing is stored."""
    rows = []
    for cell, values, others in zip(losses.cells, losses.table, losses.others, strict=True):
        seeds = {seed: float(value) for seed, value in zip(losses.seeds, values, strict=True) if not np.isnan(value)}
        state = next(iter(others), "complete")
        mean = float(np.mean(list(seeds.values()))) if seeds else None
        rows.append(Row(None, cell, state, (1, 1), None, mean, 1, None, None, None, seed_values=seeds))
    return ranked(rows)


def judged(losses: Losses) -> Verdicts:
    order = [canonical(row.cell) for row in table_of(losses) if row.rank is not None]
    return decide(losses, losses, CLAIMS, ranked=order)


def test_table_and_verdicts_name_the_same_best_cell() -> None:
    rng = np.random.default_rng(0)
    for world in (*WORLDS, NULL_WORLDS[-1]):
        for name, policy in POLICIES.items():
            if name == "pruned" and world.is_whole:
                continue
            for losses in policy(world, rng, 1 if name == "raced" else 2, 3):
                verdicts = judged(losses)
                rows = [row for row in table_of(losses) if row.rank is not None]
                assert verdicts.best == (rows[0].cell if rows else None), (world.name, name)
                assert [each.cell for each in verdicts.candidates][:1] == [row.cell for row in rows[:1]]


@pytest.mark.parametrize("replays", [15, pytest.param(60, marks=pytest.mark.soak)])
def test_pruning_turns_no_verdict_round(replays: int) -> None:
    """Replays of the measured curves through the rule of the default pruner."""
    curves = load_curves()
    queues = draw_queues(curves, replays, 3, "grid")
    outcome = replay(queues, TopCellsRule(5, 500), workers=2)
    told: Counter[str] = Counter()
    for draw in range(replays):
        table, pruned = np.full((len(curves.cells), 3), np.nan), np.zeros((len(curves.cells), 3), np.bool_)
        for place, cell in enumerate(queues.cells[draw]):
            seed = place // len(curves.cells)
            table[cell, seed], pruned[cell, seed] = queues.values[draw, place, -1], outcome.pruned[draw, place]
        whole = judged(Losses(curves.cells, [0, 1, 2], table, [Counter() for _ in curves.cells]))
        others = [Counter(pruned=int(count)) if count else Counter[str]() for count in pruned.sum(axis=1)]
        less = judged(Losses(curves.cells, [0, 1, 2], np.where(pruned, np.nan, table), others))
        assert pruned.any()
        for one, other in zip(whole.answers, less.answers, strict=True):
            assert {one.verdict, other.verdict} != {Verdict.YES, Verdict.OPPOSITE}
            told[other.verdict] += 1
            if any(each.in_state("pruned") for each in other.comparisons):
                assert other.verdict is Verdict.NOT_ANSWERABLE
        assert whole.candidates[0].cell in [each.cell for each in less.candidates]
    assert told[Verdict.NOT_ANSWERABLE] > 0


def test_the_benchmark_of_the_error_rates() -> None:
    """A quick look; `python -m benchmarks.verdicts` takes a thorough one."""
    found = scores("gaussian", "equal", 5, 10, 0)
    text = line(WORLDS[0], "equal", 5, found)
    assert text.count("|") == len(HEADS) + 1
    assert "OUT" not in text
    null = scores("whole numbers, no difference", "equal", 2, 10, 0)
    assert "OUT" not in line(NULL_WORLDS[-1], "equal", 2, null)
