"""Adaptive seeds: the pure rule on made-up losses, and a small study from its first seeds to its verdict."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from study_files import all_rows, program, sqlite, write_corpus, write_study

from benchmarks.racing import CELLS, MOST_SEEDS, World, race, simulate
from search.errors import UsageError
from search.strategies.racing import contenders, leader, next_seeds
from search.study.definition import load_definition
from search.study.search_space import RacingSettings

RULES = RacingSettings(first=2, max_seeds=10)


def losses(**cells: list[float]) -> dict[str, dict[int, float]]:
    return {name: dict(enumerate(values)) for name, values in cells.items()}


def test_a_cell_that_is_worse_at_every_seed_is_left_alone() -> None:
    known = losses(a=[2.30, 2.35, 2.31], b=[2.31, 2.34, 2.33], c=[2.80, 2.85, 2.82])
    assert leader(known) == "a"
    assert contenders(known, 0.99) == ["a", "b"]
    assert next_seeds(known, 0, RULES, cells=3, trials=9) == {"a": 3, "b": 3}


def test_the_race_ends_with_one_cell() -> None:
    known = losses(a=[2.30, 2.35, 2.31], b=[2.80, 2.85, 2.82], c=[2.80, 2.85, 2.82])
    assert next_seeds(known, 0, RULES, cells=3, trials=9) == {}


def test_what_all_cells_share_at_a_seed_is_no_noise() -> None:
    shared = [0.0, 0.5, -0.4, 0.3]
    known = losses(a=[2 + s for s in shared], b=[2.01 + s for s in shared], c=[2.02 + s for s in shared])
    assert contenders(known, 0.95) == ["a"]


def test_equal_cells_are_never_told_apart() -> None:
    known = losses(a=[2.0, 2.1], b=[2.0, 2.1])
    assert contenders(known, 0.99) == ["a", "b"]


def test_max_seeds_and_budget_end_a_race() -> None:
    known = losses(a=[2.0, 2.1], b=[2.0, 2.1], c=[2.0, 2.1])
    assert next_seeds(known, 0, RacingSettings(first=2, max_seeds=2, budget=99), 3, 6) == {}
    assert next_seeds(known, 0, RacingSettings(first=2, max_seeds=9, budget=6), 3, 6) == {}
    assert len(next_seeds(known, 0, RacingSettings(first=2, max_seeds=9, budget=8), 3, 6)) == 2
    # One more trial compares nothing.
    assert next_seeds(known, 0, RacingSettings(first=2, max_seeds=9, budget=7), 3, 6) == {}


def test_one_cell_or_none_needs_no_race() -> None:
    assert next_seeds({}, 0, RULES, 3, 6) == {}
    assert next_seeds(losses(a=[2.0, 2.1]), 0, RULES, 3, 6) == {}


@pytest.mark.parametrize("world", [World("as the grid", 0.01, 0.01), World("close", 0.01, 0.02)], ids=str)
def test_the_winner_is_right_at_half_the_trials(world: World) -> None:
    outcome = simulate(world, 100, RacingSettings(max_seeds=MOST_SEEDS), seed=3)
    assert outcome.correct >= 0.95
    assert outcome.share <= 0.5


def test_a_race_never_passes_its_budget() -> None:
    import numpy as np

    drawn = World("exhausted", gap=0.0, noise=0.05).draw(np.random.default_rng(4))
    _, trials = race(drawn, RacingSettings(first=2, max_seeds=MOST_SEEDS, budget=150))
    assert CELLS * 2 < trials <= 150


ADAPTIVE = """
objective = "fake_objective:start"
first_seed = 5
seeds = "adaptive"

[grid]
n_embd = [8, 16, 32]
block_size = [8, 16]

[racing]
first = 2
max_seeds = 6
budget = 26

[training]
max_iters = 4
eval_interval = 2

[pruner]
name = "none"
"""


def test_a_study_races_to_its_end_and_no_further(tmp_path: Path) -> None:
    file, corpus, storage = write_study(tmp_path, ADAPTIVE), write_corpus(tmp_path), sqlite(tmp_path)
    options = ["--study", file, "--corpus", corpus, "--storage", storage, "--workers", "2", "--quiet"]
    done = program("run", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = all_rows(storage)
    assert {row["outcome"] for row in rows} == {"complete"}
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        cell = {name: value for name, value in row["cell"].items() if name != "seed"}
        found.setdefault(str(cell), {})[row["cell"]["seed"]] = row["value"]
    counts = Counter(len(own) for own in found.values())
    assert sum(count * seeds for seeds, count in counts.items()) == len(rows) <= 26
    assert len(rows) > 12, "the fake losses are noise: some cell must have got a third seed"
    rules = load_definition(file).racing
    assert rules is not None
    assert next_seeds(found, 5, rules, 6, len(rows)) == {}, "it ended where the rule ends"
    again = program("run", *options, cwd=tmp_path)
    assert again.returncode == 0
    assert len(all_rows(storage)) == len(rows)


def test_a_start_goes_on_with_a_race_that_nobody_planned(tmp_path: Path) -> None:
    """As if the last worker had been killed between its last trial and the planning."""
    equal = ADAPTIVE.replace('seeds = "adaptive"', "seeds = 2").replace(
        "[racing]\nfirst = 2\nmax_seeds = 6\nbudget = 26", ""
    )
    corpus, storage = write_corpus(tmp_path), sqlite(tmp_path)
    options = ["--corpus", corpus, "--storage", storage, "--workers", "1", "--quiet"]
    assert program("run", "--study", write_study(tmp_path, equal), *options, cwd=tmp_path).returncode == 0
    assert len(all_rows(storage)) == 12
    assert program("run", "--study", write_study(tmp_path, ADAPTIVE), *options, cwd=tmp_path).returncode == 0
    assert len(all_rows(storage)) > 12


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('seeds = "adaptve"', "seeds = 'adaptve': write an integer, or .adaptive."),
        ("seeds = 2\n[racing]\nfirst = 2", 'racing needs seeds = "adaptive"'),
        ('seeds = "adaptive"\n[racing]\nfirst = 4\nmax_seeds = 3', "racing.max_seeds = 3 is below racing.first = 4"),
        ('seeds = "adaptive"\n[racing]\nfirst = 1', "racing.first = 1: it should be greater than or equal to 2"),
        ('seeds = "adaptive"\n[racing]\nbudgt = 1', r"unknown key 'racing.budgt' \(did you mean 'budget'\?\)"),
        ('seeds = "adaptive"\nsampler = "tpe"\ntrials = 3\n', 'seeds = "adaptive" works only with the grid'),
    ],
)
def test_faults(tmp_path: Path, text: str, said: str) -> None:
    file = write_study(tmp_path, f"{text}\n[grid]\nn_embd = [8]\n")
    with pytest.raises(UsageError, match=said):
        load_definition(file)


def test_a_number_of_seeds_ends_the_race(tmp_path: Path) -> None:
    assert load_definition(write_study(tmp_path, ADAPTIVE), ["max_seeds=3"]).racing == RacingSettings(
        first=2, max_seeds=3, budget=26
    )
