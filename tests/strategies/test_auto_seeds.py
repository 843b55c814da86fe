"""`seeds = "auto"`: which cells get further seeds, and a small study from its first seeds to its end."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from queue_work import end_trials
from study_files import all_rows, program, sqlite, write_corpus, write_study

from search.errors import UsageError
from search.options import PlanningOptions
from search.planning import open_planned
from search.reporting.report_data import read_report_data
from search.statistics.answers import Verdict
from search.statistics.losses import Losses
from search.statistics.outlook import Outlook, Rules, outlook
from search.statistics.questions import BEST
from search.statistics.verdicts import decide
from search.storage.connect import open_database
from search.storage.queries import counts
from search.storage.values import canonical
from search.strategies.auto_seeds import make_seed_planner, needed_cells
from search.study.claims import Cell, Claim
from search.study.definition import load_definition
from search.study.search_space import AutoSeedsSettings
from search.study.stored import read_stored_study

CLAIM = Claim(factor="a", order=[1, 2])


class MadeUp:
    """Losses of a grid of two axes, drawn one seed after the other.

    Args:
        effect: By how much a = 1 is better than a = 2.
        noise: Standard deviation of a trial.
        pairs: The number of values of the other axis; each is 0.5 worse than the one before.
    """

    def __init__(self, effect: float, noise: float, pairs: int = 3, seed: int = 0) -> None:
        self.cells = [{"a": a, "b": b} for b in range(pairs) for a in (1, 2)]
        self.truth = {canonical(cell): cell["b"] * 0.5 + (effect if cell["a"] == 2 else 0.0) for cell in self.cells}
        self.noise, self.rng = noise, np.random.default_rng(seed)
        self.drawn: dict[str, list[float]] = {canonical(cell): [] for cell in self.cells}
        for cell in self.cells * 2:
            self.train(cell)

    def train(self, cell: Any) -> None:
        """Draw the next seed of a cell."""
        key = canonical(cell)
        self.drawn[key].append(self.truth[key] + float(self.rng.normal(0, self.noise)))

    @property
    def losses(self) -> Losses:
        return Losses.of(
            (cell, seed, loss) for cell in self.cells for seed, loss in enumerate(self.drawn[canonical(cell)])
        )

    @property
    def counts(self) -> dict[str, int]:
        return {key: len(losses) for key, losses in self.drawn.items()}

    def look(self, rules: Rules, seconds: dict[str, float] | None = None) -> Outlook:
        return outlook(self.losses, self.losses, rules, seconds or {})

    def run(self, rules: Rules) -> Outlook:
        """Train what is asked for, until nothing is."""
        while (found := self.look(rules)).next:
            for cell in found.next:
                self.train(cell)
        return found


def rules(claims: list[Claim], budget: int | None = None, margin: float | None = None, max_seeds: int = 20) -> Rules:
    return Rules(claims, margin, AutoSeedsSettings(budget=budget, max_seeds=max_seeds), 6)


def test_seeds_go_on_until_the_claim_is_answered() -> None:
    study = MadeUp(effect=0.05, noise=0.05)
    assert decide(study.losses, study.losses, [CLAIM]).answers[0].verdict is Verdict.CANNOT_TELL
    end = study.run(rules([CLAIM], budget=100))
    verdicts = decide(study.losses, study.losses, [CLAIM])
    assert verdicts.answers[0].verdict is Verdict.YES
    assert (end.needs, [each.cell for each in verdicts.candidates]) == ([], [{"a": 1, "b": 0}])
    assert sum(study.counts.values()) < 100


def test_without_claims_only_cells_that_may_be_the_best_get_seeds() -> None:
    study = MadeUp(effect=0.05, noise=0.05)
    study.run(rules([], budget=100))
    worse = [count for cell, count in study.counts.items() if '"b": 0' not in cell and '"b":0' not in cell]
    assert set(worse) == {2}
    assert len(decide(study.losses, study.losses, []).candidates) == 1


def test_no_effect_ends_with_no_clear_difference_where_there_is_a_margin() -> None:
    study = MadeUp(effect=0.0, noise=0.02)
    study.run(rules([CLAIM], budget=110, margin=0.03))
    [answer] = decide(study.losses, study.losses, [CLAIM], margin=0.03).answers
    assert answer.verdict is Verdict.NO_CLEAR_DIFFERENCE
    assert answer.words == "no clear difference (less than 0.03)"


def test_a_question_beyond_the_budget_gets_no_seeds_and_says_what_it_needs() -> None:
    study = MadeUp(effect=0.001, noise=0.5)
    end = study.look(rules([CLAIM], budget=14, max_seeds=1000))
    assert not end.next
    assert {each.text for each in end.needs} == {"a: 1 is better than 2", BEST}
    assert all(each.trials is None or each.trials > 2 for each in end.needs)


def test_the_budget_and_the_most_seeds_are_never_passed() -> None:
    for budget, most in ((20, 20), (200, 4)):
        study = MadeUp(effect=0.01, noise=0.05)
        study.run(rules([CLAIM], budget=budget, max_seeds=most))
        assert sum(study.counts.values()) <= budget
        assert max(study.counts.values()) <= most


def test_what_costs_less_time_gets_seeds_first() -> None:
    study = MadeUp(effect=0.05, noise=0.05)
    seconds = {canonical(cell): 100.0 if cell["b"] == 2 else 1.0 for cell in study.cells}
    chosen = Counter(cell["b"] for cell in study.look(rules([CLAIM], budget=100), seconds).next)
    assert chosen[2] < chosen[0] + chosen[1]


def test_one_seed_a_cell_asks_nothing() -> None:
    single = Losses.of(({"a": a, "b": 0}, 1, float(a)) for a in (1, 2))
    assert outlook(single, single, rules([CLAIM]), {}).needs == []


def test_a_question_whose_trials_wait_holds_up_no_other() -> None:
    """Those of baselines can wait for another run."""
    study = MadeUp(effect=0.05, noise=0.05)
    pair: list[Cell] = [{"c": 1}, {"c": 2}]
    trials: list[tuple[Cell, int, float]] = [
        (dict(cell), seed, loss) for cell in study.cells for seed, loss in enumerate(study.drawn[canonical(cell)])
    ]
    trials += [(pair[0], 0, 1.0), (pair[0], 1, 1.06), (pair[1], 0, 1.05), (pair[1], 1, 1.11)]
    asked = rules([Claim(cells=pair)], budget=1000)
    seconds = {canonical(cell): 1e-3 if cell in pair else 1.0 for cell, _, _ in trials}
    found = [
        outlook(study.losses, Losses.of(trials, others=others), asked, seconds)
        for others in ([], [(pair[0], "running")], [(pair[0], "waiting")])
    ]
    assert [{*map(canonical, each.next)} <= {*map(canonical, pair)} for each in found] == [True, True, False]
    assert [each.question == BEST for each in found] == [False, False, True]


AUTO = """
objective = "fake_objective:start"
first_seed = 5
seeds = "auto"

[grid]
n_embd = [8, 16, 32]
block_size = [8, 16]

[auto_seeds]
first = 2
max_seeds = 6
budget = 26

[training]
max_iters = 4
eval_interval = 2

[pruner]
name = "none"
"""


def test_a_study_gets_seeds_to_its_end_and_no_further(tmp_path: Path) -> None:
    file, corpus, storage = write_study(tmp_path, AUTO), write_corpus(tmp_path), sqlite(tmp_path)
    options = ["--study", file, "--corpus", corpus, "--storage", storage, "--workers", "2", "--quiet"]
    done = program("run", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = all_rows(storage)
    assert {row["outcome"] for row in rows} == {"complete"}
    seeds: dict[str, list[int]] = {}
    for row in rows:
        cell = {name: value for name, value in row["cell"].items() if name != "seed"}
        seeds.setdefault(canonical(cell), []).append(row["cell"]["seed"])
    assert all(sorted(each) == list(range(5, 5 + len(each))) for each in seeds.values())
    assert 12 < len(rows) <= 26, "the fake losses are noise: some cell must have got a third seed"
    with open_database(storage, create=False).closing() as database:
        stored = read_stored_study(database, "small")
        assert stored is not None
        plan = make_seed_planner(database, stored)
        assert plan is not None
        assert plan() == 0, "it ended where the rule ends"
        assert sum(stored.seeds_given.values()) == len(rows) - 12
        assert len(set(stored.seeds_given) - {""}) >= 1
        notes = read_report_data(database, ["small"], with_trials=False).notes
        assert any(note.startswith("Further seeds by question: ") for note in notes)
    assert len(all_rows(storage)) == len(rows)


def test_a_start_goes_on_where_the_planning_was_interrupted(tmp_path: Path) -> None:
    """As if the last worker had been killed between its last trial and the planning."""
    equal = AUTO.replace('seeds = "auto"', "seeds = 2").replace(
        "[auto_seeds]\nfirst = 2\nmax_seeds = 6\nbudget = 26", ""
    )
    corpus, storage = write_corpus(tmp_path), sqlite(tmp_path)
    options = ["--corpus", corpus, "--storage", storage, "--workers", "1", "--quiet"]
    assert program("run", "--study", write_study(tmp_path, equal), *options, cwd=tmp_path).returncode == 0
    assert len(all_rows(storage)) == 12
    # A budget that answers a question whatever the seconds of the trials say about the cost of each cell.
    enough = write_study(tmp_path, AUTO.replace("max_seeds = 6\nbudget = 26", "max_seeds = 5\nbudget = 1000"))
    again = program("run", "--study", enough, *options, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(all_rows(storage)) > 12


def test_baselines_that_a_run_leaves_out_hold_up_no_seeds(tmp_path: Path) -> None:
    text = AUTO + "\n[[baselines]]\nn_embd = 4\nblock_size = 8\n"
    file, corpus = write_study(tmp_path, text), Path(write_corpus(tmp_path))

    def waiting(*, baselines: bool) -> tuple[int, int]:
        """After a start with the baselines or without them: the trials of the study and of its sibling that wait."""
        database, _ = open_planned(
            PlanningOptions(study=file, corpus=corpus, storage=sqlite(tmp_path), out=tmp_path, baselines=baselines)
        )
        with database.closing():
            one, other = (counts(database, [name])["waiting"] for name in ("small", "small-baselines"))
            return one, other

    assert waiting(baselines=True) == (12, 2)
    with open_database(sqlite(tmp_path), create=False).closing() as database:
        end_trials(database, "small", loss=lambda cell: random.Random(canonical(cell)).random())
    assert waiting(baselines=True) == (0, 2), "a run that trains them does so first"
    further, others = waiting(baselines=False)
    assert (further > 0, others) == (True, 2)


def test_cells_that_a_claim_compares_are_not_pruned(tmp_path: Path) -> None:
    text = AUTO + '\n[[claims]]\nfactor = "n_embd"\norder = [8, 16]\n'
    file, corpus, storage = write_study(tmp_path, text), write_corpus(tmp_path), sqlite(tmp_path)
    options = ["--study", file, "--corpus", corpus, "--storage", storage, "--plan-only", "--quiet"]
    assert program("run", *options, cwd=tmp_path).returncode == 0
    with open_database(storage, create=False).closing() as database:
        stored = read_stored_study(database, "small")
        assert stored is not None
        is_needed = needed_cells(stored)
    assert [is_needed({"n_embd": width, "block_size": 8}) for width in (8, 16, 32)] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('seeds = "atuo"', "seeds = 'atuo': write an integer, or .auto."),
        ("seeds = 2\n[auto_seeds]\nfirst = 2", 'auto_seeds needs seeds = "auto"'),
        (
            'seeds = "auto"\n[auto_seeds]\nfirst = 4\nmax_seeds = 3',
            "auto_seeds.max_seeds = 3 is below auto_seeds.first",
        ),
        ('seeds = "auto"\n[auto_seeds]\nfirst = 1', "auto_seeds.first = 1: it should be greater than or equal to 2"),
        ('seeds = "auto"\n[auto_seeds]\nbudgt = 1', r"unknown key 'auto_seeds.budgt' \(did you mean 'budget'\?\)"),
        ('seeds = "auto"\nsampler = "tpe"\ntrials = 3\n', 'seeds = "auto" works only with the grid'),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "study.toml"
    file.write_text(f'objective = "language_model"\n{text}\n\n[grid]\nmodel = ["bigram"]\nblock_size = [8, 16]\n')
    with pytest.raises(UsageError, match=said):
        load_definition(str(file))


@pytest.mark.parametrize("section", ["racing", "auto_seeds"])
def test_files_of_earlier_versions_are_read(tmp_path: Path, section: str) -> None:
    file = tmp_path / "study.toml"
    grid = '[grid]\nmodel = ["bigram"]\nblock_size = [8, 16]'
    file.write_text(f'seeds = "adaptive"\n{grid}\n[{section}]\nconfidence = 0.9\n')
    assert load_definition(str(file)).auto_seeds == AutoSeedsSettings()
