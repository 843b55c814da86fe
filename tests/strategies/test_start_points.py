"""The first cells of a sampler that learns do not crowd; a sampler is tried before anything is planned."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from sqlalchemy import delete
from study_files import opened, sqlite, write_study

from search.errors import UsageError
from search.options import PlanningOptions
from search.planning import open_planned
from search.storage.optuna_tables import _study_attrs
from search.strategies.samplers import check_sampler
from search.strategies.slot_sampling import make_sampling
from search.strategies.start_points import start_point
from search.study.distributions import unreached_ends
from search.study.search_space import Range, SamplerSettings
from search.study.stored import StoredStudy, read_stored_study

UNIT = {name: FloatDistribution(0.0, 1.0) for name in "abcde"}
NUMBERS = st.floats(-1e300, 1e300)


@pytest.mark.parametrize("seed", [0, 1, 7, 42, 1337])
def test_points_do_not_crowd(seed: int) -> None:
    points = [start_point(UNIT, index, seed) for index in range(12)]
    for axis in UNIT:
        values = sorted(point[axis] for point in points)
        assert min(high - low for low, high in itertools.pairwise(values)) > 0.008
        assert values[0] < 0.35
        assert values[-1] > 0.65
    assert points != [start_point(UNIT, index, seed + 1) for index in range(12)]
    assert points == [start_point(UNIT, index, seed) for index in range(12)]


@given(
    st.lists(
        st.one_of(
            st.tuples(NUMBERS, NUMBERS)
            .filter(lambda ends: ends[0] != ends[1])
            .map(lambda ends: FloatDistribution(min(ends), max(ends))),
            st.tuples(st.integers(-(10**9), 10**9), st.integers(1, 10**9), st.integers(1, 100)).map(
                lambda drawn: IntDistribution(drawn[0], drawn[0] + drawn[1] * drawn[2], step=drawn[2])
            ),
            st.integers(1, 10**6).map(lambda high: IntDistribution(1, high, log=True)),
            st.floats(1e-300, 1e300).map(lambda low: FloatDistribution(low, low * 1e7, log=True)),
            st.tuples(st.integers(-100, 100), st.integers(1, 50)).map(
                lambda drawn: FloatDistribution(drawn[0] / 10, (drawn[0] + drawn[1]) / 10, step=0.1)
            ),
            st.lists(st.integers() | st.text(), min_size=1, max_size=9, unique=True).map(CategoricalDistribution),
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 10**6),
    st.integers(0, 2**31),
)
def test_points_lie_in_the_search_space(drawn: list[BaseDistribution], index: int, seed: int) -> None:
    space = {f"x{at}": each for at, each in enumerate(drawn)}
    for name, value in start_point(space, index, seed).items():
        assert space[name]._contains(space[name].to_internal_repr(value)), (space[name], value)


def test_a_list_is_covered() -> None:
    space: dict[str, BaseDistribution] = {"x": CategoricalDistribution(list("abcd")), "y": IntDistribution(1, 4)}
    points = [start_point(space, index, 1337) for index in range(8)]
    assert {point["x"] for point in points} == set("abcd")
    assert {point["y"] for point in points} == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CmaEsSampler", r"^sampler = 'CmaEsSampler' needs a package that .*; install it with: pip install cmaes$"),
        ("broken_sampler:Late", r"'broken_sampler:Late' cannot choose from this search space: ValueError: late"),
        ("broken_sampler:Needy", r"needs a package that is not installed; install it with: pip install surely_absent$"),
    ],
)  # fmt: skip
def test_a_sampler_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    if name == "CmaEsSampler":
        monkeypatch.setitem(__import__("sys").modules, "cmaes", None)
    (tmp_path / "broken_sampler.py").write_text(
        "import optuna\n"
        "class Late(optuna.samplers.RandomSampler):\n"
        "    def sample_relative(self, study, trial, space):\n"
        "        if len(study.trials) > 1: raise ValueError('late')\n"
        "        return {}\n"
        "class Needy(optuna.samplers.RandomSampler):\n"
        "    def sample_relative(self, study, trial, space):\n"
        "        import surely_absent.deep\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=message):
        check_sampler(SamplerSettings(name=name), UNIT)


@pytest.mark.parametrize("name", ["tpe", "random", "NSGAIISampler", "QMCSampler", "BruteForceSampler"])
def test_samplers_that_work(name: str) -> None:
    check_sampler(SamplerSettings(name=name), {"x": IntDistribution(1, 500), "y": CategoricalDistribution(["a", "b"])})


@pytest.mark.parametrize(
    ("axis", "last"),
    [
        (Range(low=0, high=10, step=3), 9),
        (Range(low=0.0, high=1.0, step=0.3), 0.9),
        (Range(low=0, high=9, step=3), None),
        (Range(low=0.0, high=1.0, step=0.1), None),
        (Range(low=0.0, high=1.0, step=5.0), 0.0),
    ],
)
def test_a_step_that_does_not_reach_the_end_is_said(axis: Range, last: float | None) -> None:
    assert [sentence.rpartition(" ")[2] for sentence in unreached_ends({"x": axis})] == (
        [] if last is None else [str(last)]
    )


STUDY = """
objective = "fake_objective:start"
sampler = "tpe"
trials = 12
[axes]
zeta = { low = 0.0, high = 1.0 }
block_size = [8, 16]
alpha = { low = 0.0, high = 1.0 }
"""


def planned(folder: Path, corpus: str) -> tuple[Any, StoredStudy]:
    options = PlanningOptions(study=write_study(folder, STUDY), storage=sqlite(folder), corpus=Path(corpus))
    database, study = open_planned(options)
    stored = read_stored_study(database, study.name)
    assert stored is not None
    return database, stored


def test_a_study_of_an_earlier_version_keeps_its_random_start(tmp_path: Path, corpus_file: str) -> None:
    database, new = planned(tmp_path, corpus_file)
    with database.closing():
        sampling = make_sampling(database, new)
        assert sampling is not None
        assert (sampling.has_start_points, list(sampling.order)) == (True, ["zeta", "block_size", "alpha"])
        forget = delete(_study_attrs).where(_study_attrs.c.key == "start_points")
        database.write(lambda connection: connection.execute(forget))
    database, old = planned(tmp_path, corpus_file)
    with database.closing():
        sampling = make_sampling(database, old)
        assert sampling is not None
        assert not sampling.has_start_points


def test_cells_have_the_order_of_the_file(tmp_path: Path, corpus_file: str) -> None:
    from search.storage.queue import TrialQueue

    database, stored = planned(tmp_path, corpus_file)
    with database.closing():
        sampling = make_sampling(database, stored)
        assert sampling is not None
        [lease] = TrialQueue(database).claim([stored.name], "ann")
        cell = json.loads(sampling.fill(lease).cell)
    assert list(cell) == ["zeta", "block_size", "alpha", "seed", "@slot", "@repetition"]
    expected = start_point(sampling.distributions, 0, stored.first_seed)
    assert {name: cell[name] for name in expected} == expected
    with opened(sqlite(tmp_path)).closing():
        pass
