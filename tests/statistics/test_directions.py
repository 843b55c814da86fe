"""A study and its mirrored twin, with negated and maximized values, give the same decisions and mirrored numbers."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sample_study import engines_closed
from study_files import sqlite, write_study

from search.reporting.missing_text import target_sentence
from search.reporting.progress import Snapshot, summary_line
from search.reporting.render import render
from search.statistics.answers import Verdict
from search.statistics.losses import Losses
from search.statistics.outlook import Rules, outlook
from search.statistics.ranking import Row, is_reached, ranked, ranked_rows
from search.statistics.verdicts import decide
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.leases import Report
from search.storage.planning import StoredTrial
from search.storage.queue import TrialQueue
from search.storage.tracking_queries import trials_with_news
from search.strategies.auto_seeds import losses_of
from search.strategies.pruners import make_pruner
from search.strategies.samplers import ask, check_sampler, make_sampler
from search.strategies.slot_sampling import make_sampling
from search.study.claims import Claim
from search.study.definition import load_definition
from search.study.metrics import Direction, Metric
from search.study.planner import Study, ensure_planned
from search.study.pruner_settings import PrunerSettings
from search.study.search_space import AutoSeedsSettings, SamplerSettings
from search.study.stored import read_stored_study
from search.trackers.feed import events_of

LOSS, SCORE = Metric(), Metric("score", "maximize")
OBSERVATIONS = [
    ({"size": size, "kind": kind}, seed, 2.0 / size + (0.3 if kind == "b" else 0.0) + 0.01 * ((seed * 7 + size) % 5))
    for size in (1, 2, 3)
    for kind in ("a", "b")
    for seed in range(5)
]
CLAIMS = [
    Claim(factor="size", order=[3, 2, 1]),
    Claim(factor="kind", not_always=["b", "a"]),
    Claim(cells=[{"size": 1, "kind": "b"}, {"size": 3, "kind": "a"}]),
    Claim(factor="size", order=[3, 1], along="kind", change="grows"),
]


def mirrored(losses: Sequence[tuple[Any, int, float]]) -> list[tuple[Any, int, float]]:
    return [(cell, seed, -loss) for cell, seed, loss in losses]


def test_verdicts() -> None:
    losses, scores = Losses.of(OBSERVATIONS, LOSS), Losses.of(mirrored(OBSERVATIONS), SCORE)
    one, twin = decide(losses, losses, CLAIMS), decide(scores, scores, CLAIMS)
    assert (twin.best, twin.candidates) == (one.best, one.candidates)
    assert (twin.modes, twin.correlation) == ((), one.correlation)
    for found, other in zip((*one.comparisons, *one.answers), (*twin.comparisons, *twin.answers), strict=True):
        assert other == replace(found, sentence=other.sentence)
        assert other.sentence == found.sentence.replace("a lower validation loss", "a higher score")
    assert {each.verdict for each in one.answers} >= {Verdict.YES, Verdict.OPPOSITE}


def row(number: int, value: float | None, metric: Metric, state: str = "complete", **more: Any) -> Row:
    return Row(None, {"n": number}, state, (1, 1), None, value, 1, None, None, None, metrics=(metric,), **more)


def test_ranks() -> None:
    values = [3.0, 1.0, 2.0, 5.0, 4.0, None]
    states = ["complete", "complete", "complete", "pruned", "pruned", "waiting"]
    found = ranked([row(at, v, LOSS, s) for at, (v, s) in enumerate(zip(values, states, strict=True))])
    twins = [row(at, None if v is None else -v, SCORE, s) for at, (v, s) in enumerate(zip(values, states, strict=True))]
    twin = ranked(twins)
    assert [(each.rank, each.cell) for each in twin] == [(each.rank, each.cell) for each in found]
    assert [each.cell["n"] for each in found] == [1, 2, 0, 4, 3, 5]


def test_an_infeasible_cell_has_no_rank_and_is_not_the_best() -> None:
    rows = ranked([row(0, 1.0, LOSS, is_feasible=False, seed_values={1: 1.0}), row(1, 2.0, LOSS, seed_values={1: 2.0})])
    assert [(each.cell["n"], each.rank) for each in rows] == [(1, 1), (0, None)]
    assert is_reached(1.5, rows) is False


def test_the_pareto_front_comes_first() -> None:
    metrics = (SCORE, Metric("seconds", "minimize"))
    points = [(0.9, 5.0), (0.8, 1.0), (0.95, 9.0), (0.8, 2.0), (0.7, 1.0), (0.9, 5.0)]
    rows = ranked(
        [
            Row(None, {"n": at}, "complete", (1, 1), None, score, 1, None, None, None, metrics=metrics,
                further={"seconds": seconds})
            for at, (score, seconds) in enumerate(points)
        ]
    )  # fmt: skip
    assert [(each.cell["n"], each.on_front) for each in rows] == [
        (2, True), (0, True), (5, True), (1, True), (3, False), (4, False),
    ]  # fmt: skip


def curves(sign: int) -> list[FrozenTrial]:
    random_numbers = random.Random(0)
    trials = []
    for number in range(30):
        level = random_numbers.gauss(2.0, 0.3)
        steps = {step: sign * (level + 2.0 / step + random_numbers.gauss(0, 0.1)) for step in range(1, 9)}
        if number % 7 == 6:
            steps[3] = math.nan
        trial = create_trial(state=TrialState.COMPLETE, value=steps[8], intermediate_values=steps)
        trial.params, trial.distributions = {"cell": number}, {"cell": IntDistribution(0, 1000)}
        trial.number = trial._trial_id = number
        trials.append(trial)
    return trials


class History:
    """Ended trials, as our pruners query them."""

    def __init__(self, trials: list[FrozenTrial]) -> None:
        self.trials = trials

    def ended(self) -> list[FrozenTrial]:
        return self.trials

    def running(self) -> list[FrozenTrial]:
        return []

    def complete_values(self, step: int) -> tuple[int, Any]:
        return len(self.trials), np.array([each.intermediate_values[step] for each in self.trials])


def decisions(pruner: dict[str, Any], direction: Direction) -> list[int | None]:
    """The step at which a pruner stops each of 20 further trials; None if it does not."""
    sign = 1 if direction == "minimize" else -1
    study = optuna.create_study(study_name="twin", direction=direction)
    study.add_trials(curves(sign))
    made = make_pruner(PrunerSettings.model_validate(pruner), History(study.trials))
    stopped: list[int | None] = []
    noise = random.Random(1)
    for number in range(20):
        trial = create_trial(state=TrialState.RUNNING)
        trial.number = trial._trial_id = 100 + number
        trial.params = {"cell": 100 + number}
        level = noise.gauss(2.0, 0.3)
        end = None
        for step in range(1, 9):
            trial.intermediate_values[step] = sign * (level + 2.0 / step + noise.gauss(0, 0.1))
            if end is None and made.prune(study, trial):
                end = step
        stopped.append(end)
    return stopped


PRUNERS: list[dict[str, Any]] = [
    {"name": "median", "warmup_steps": 2},
    {"name": "top", "warmup_steps": 2, "keep": 12},
    {"name": "MedianPruner"},
    {"name": "PercentilePruner", "percentile": 30.0},
    {"name": "PatientPruner", "wrapped_pruner": "MedianPruner", "patience": 1},
]


@pytest.mark.parametrize("pruner", PRUNERS, ids=lambda each: each["name"])
def test_pruning_decisions(pruner: dict[str, Any]) -> None:
    found = decisions(pruner, "minimize")
    assert decisions(pruner, "maximize") == found
    assert 0 < sum(step is not None for step in found) < 20


def test_our_median_pruner_decides_as_optunas_where_more_is_better() -> None:
    ours = {"name": "median", "warmup_steps": 0, "min_trials": 5}
    assert decisions(ours, "maximize") == decisions({"name": "MedianPruner", "n_min_trials": 5}, "maximize")


SPACE = {"x": FloatDistribution(0.0, 1.0), "kind": CategoricalDistribution(["a", "b"])}


@pytest.mark.parametrize("name", ["random", "tpe", "NSGAIISampler"])
def test_samplers(name: str) -> None:
    settings = SamplerSettings(name=name)

    def choices(metrics: Sequence[Metric], values: Callable[[int], list[float]]) -> Any:
        trials = [
            create_trial(params={"x": (at * 0.37) % 1.0, "kind": "ab"[at % 2]}, distributions=SPACE, values=values(at))
            for at in range(15)
        ]
        return [ask(make_sampler(settings, 1, slot), SPACE, trials, {}, metrics=metrics).values for slot in range(3)]

    found = choices([LOSS], lambda at: [(at * 0.37) % 1.0])
    assert choices([SCORE], lambda at: [-((at * 0.37) % 1.0)]) == found
    two = choices([LOSS, LOSS], lambda at: [(at * 0.37) % 1.0, (at * 0.11) % 1.0])
    assert choices([LOSS, SCORE], lambda at: [(at * 0.37) % 1.0, -((at * 0.11) % 1.0)]) == two
    check_sampler(settings, SPACE, metrics=[LOSS, SCORE])


def test_automatic_seeds() -> None:
    ended = [
        StoredTrial({"n": cell}, seed, "complete", 1.0 + cell * 0.05 + 0.02 * ((seed * 3 + cell) % 4))
        for cell in range(5)
        for seed in range(2)
    ]
    twins = [StoredTrial(each.cell, each.seed, each.outcome, -(each.value or 0.0)) for each in ended]
    rules = Rules([], None, AutoSeedsSettings(max_seeds=6), 5)
    one, twin = losses_of(ended, LOSS), losses_of(twins, SCORE)
    found = outlook(one, one, rules, {}).next
    assert found == outlook(twin, twin, rules, {}).next
    assert found


@contextmanager
def finished(folder: Path, text: str, sign: int) -> Iterator[Database]:
    """A study of three cells and two seeds, of which the first cell is the best."""
    folder.mkdir()
    definition = load_definition(write_study(folder, f'objective = "fake_objective:start"\n{text}\ngrid.n = [1, 2, 3]'))
    definition = definition.model_copy(update={"seeds": 2, "first_seed": 0})
    with open_database(sqlite(folder), create=True).closing() as database:
        ensure_planned(database, Study(definition, "small", None))
        queue = TrialQueue(database)
        for _ in range(6):
            [lease] = queue.claim(["small"], "worker")
            cell = json.loads(lease.cell)
            value = sign * (cell["n"] + 0.25 * cell["seed"])
            queue.report([Report(lease, 2, None, value + 1.0, {"recall": 0.4, "@seconds": 1.0})])
            queue.report([Report(lease, 4, None, value, {"recall": 0.5, "@seconds": 3.0})])
            queue.finish(lease, "complete", value)
        yield database


def test_a_study_of_the_database(tmp_path: Path) -> None:
    with (
        finished(tmp_path / "one", "", 1) as one,
        finished(tmp_path / "twin", 'metric = "score"\ndirection = "maximize"\nsettings.epochs = 3', -1) as twin,
    ):
        rows, mirror = ranked_rows(one, ["small"]), ranked_rows(twin, ["small"])
        assert [(each.rank, each.cell) for each in mirror] == [(each.rank, each.cell) for each in rows]
        assert [each.val_loss for each in mirror] == [-(each.val_loss or 0.0) for each in rows]
        assert mirror[0].seed_range == (-1.25, -1.0)
        assert mirror[0].further == {"recall": 0.5}
        for target, reached in ((1.0, True), (0.99, False)):
            assert is_reached(target, rows) is is_reached(-target, mirror) is reached
        assert target_sentence(-0.5, mirror) == (
            "The target -0.5 is not reached: the highest score of a trial is -1.00000."
        )
        snapshot = Snapshot(twin, ["small"], [SCORE])
        assert snapshot.best is not None
        assert "best -1.0000 (n=1 seed=0)" in summary_line(snapshot, 1)
        for format in ("markdown", "csv", "json", "latex", "html"):
            text = render(twin, ["small"], format)
            assert "val_loss" not in text.replace("val_loss = ", ""), format
            assert "nats" not in text
            assert format == "json" or "batch_size" not in text, "it sets none of [training]"
            assert "score" in text
            assert "recall" in text
            assert format == "html" or "val_loss" in render(one, ["small"], format).replace("\\_", "_"), format
        assert "- settings: epochs 3" in render(twin, ["small"], "markdown")
        assert "[settings]\nepochs = 3" in text
        assert "score -1.1250" in text
        assert "recall: the best 3 cells" in text
        first = next(each for each in trials_with_news(twin, ["small"], 0.0) if each.number == 0)
        *steps, end = events_of(first, [Metric("score", "maximize")])
        assert [each.metrics for each in steps] == [{"recall": 0.4, "score": 0.0}, {"recall": 0.5, "score": -1.0}]
        assert end.metrics == {"recall": 0.5, "score": -1.0}
        with engines_closed():
            study = optuna.load_study(study_name="small", storage=sqlite(tmp_path / "twin"))
            assert study.direction == StudyDirection.MAXIMIZE


TWO = """
objective = "fake_objective:start"
metrics = ["score", "seconds"]
directions = ["maximize", "minimize"]
sampler = "NSGAIISampler"
trials = 8
axes.x = { low = 0.0, high = 1.0 }
"""


def test_several_objectives(tmp_path: Path) -> None:
    """A sampler chooses by both, reports show the front first, and Optuna finds the same one."""
    definition = load_definition(write_study(tmp_path, TWO))
    with open_database(sqlite(tmp_path), create=True).closing() as database:
        ensure_planned(database, Study(definition, "small", None))
        stored = read_stored_study(database, "small")
        assert stored is not None
        sampling = make_sampling(database, stored)
        assert sampling is not None
        queue = TrialQueue(database)
        for at in range(8):
            [claimed] = queue.claim(["small"], "worker")
            lease = sampling.fill(claimed)
            x = json.loads(lease.cell)["x"]
            score = x if at % 2 else x - 0.5
            queue.report([Report(lease, 4, None, score)])
            queue.finish(lease, "complete", score, further_values=[x * x])
        rows = ranked_rows(database, ["small"])
        front = [each.cell["x"] for each in rows if each.on_front]
        assert 1 <= len(front) < 8
        assert [each.on_front for each in rows] == [True] * len(front) + [False] * (8 - len(front))
        page = render(database, ["small"], "html")
        assert "Pareto front: seconds against score" in page
        assert page.count('<tr class="first">') == len(front)
        assert "The best so far" in page
        assert "score against x" in page
    storage = optuna.storages.RDBStorage(sqlite(tmp_path))
    study = optuna.load_study(study_name="small", storage=storage)
    assert sorted(trial.params["x"] for trial in study.best_trials) == sorted(front)
    assert study.metric_names == ["score", "seconds"]
    storage.engine.dispose()
