"""Objectives by name, and what becomes of a person's function, generator function, class or instance."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Annotated, Any

import fake_objective
import pytest
from pydantic import Field

from search.errors import UsageError
from search.objectives.errors import ObjectiveError
from search.objectives.protocol import KeepsFiles, Objective, Timed, TrainingRun
from search.objectives.registry import FunctionObjective, as_objective
from search.objectives.settings import TrainingSettings, read_settings
from search.study.user_modules import resolve_objective

SETTINGS = TrainingSettings(max_iters=4, eval_interval=2)


class OwnObjective(Objective):
    """Only what every objective needs."""

    def start(
        self, cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Any, device: str
    ) -> TrainingRun:
        return fake_objective.FakeRun(cell, seed, settings)


class NoObjective:
    """A class of something else."""


def test_the_built_in_one_is_known_without_torch() -> None:
    code = (
        "import sys\n"
        "from search.study.user_modules import resolve_objective, takes_corpus\n"
        "objective = resolve_objective('language_model')\n"
        "assert takes_corpus('language_model') and objective.can_stack\n"
        "assert 'torch' not in sys.modules\n"
        "objective.prepare()\n"
        "assert 'torch' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_class_and_an_instance() -> None:
    for found in (OwnObjective, OwnObjective()):
        objective = as_objective(found, "mine:OwnObjective")
        assert isinstance(objective, OwnObjective)
        assert (objective.takes_corpus, objective.can_stack, objective.settings_class) == (
            False,
            False,
            TrainingSettings,
        )
        objective.check_cell({}, SETTINGS, None)
        assert objective.group_size({}, SETTINGS, None, "cpu") == 1
        run = objective.start({"a": 1}, 3, SETTINGS, None, "cpu")
        assert not isinstance(run, KeepsFiles)
        assert not isinstance(run, Timed)


def test_a_class_of_runs_is_a_function() -> None:
    class Run(fake_objective.FakeRun):
        def __init__(self, cell: Any, seed: int, settings: Any, corpus: Any, device: str) -> None:
            super().__init__(cell, seed, settings)

    objective = as_objective(Run, "mine:Run")
    assert isinstance(objective, FunctionObjective)
    assert isinstance(objective.start({"a": 1}, 3, SETTINGS, None, "cpu"), Run)


def test_the_functions_beside_a_start_function() -> None:
    objective = as_objective(fake_objective.start, "fake_objective:start", fake_objective)
    assert objective.takes_corpus
    assert objective.can_stack
    runs: list[Any] = [objective.start({"a": 1}, seed, SETTINGS, None, "cpu") for seed in (1, 2)]
    assert len(objective.stack_runs(runs).advance(lambda: False)) == 2
    assert objective.group_size({}, SETTINGS, None, "cpu") == 1


def test_the_check_beside_a_function_or_generator_function() -> None:
    module = ModuleType("mine")

    def check_cell(cell: Mapping[str, Any], settings: TrainingSettings, corpus: Any) -> None:
        raise ObjectiveError("no such cell")

    def loss(params: Any) -> Iterator[Any]:
        yield 0, 1.0, 1.0

    def start(cell: Any, seed: int, settings: Any, corpus: Any, device: str) -> None: ...

    for function in (loss, start):
        as_objective(function, "mine:loss", module).check_cell({}, SETTINGS, None)
    module.check_cell = check_cell  # type: ignore[attr-defined]
    for function in (loss, start):
        with pytest.raises(ObjectiveError, match="no such cell"):
            as_objective(function, "mine:loss", module).check_cell({}, SETTINGS, None)


def test_other_classes_are_refused() -> None:
    with pytest.raises(
        ObjectiveError, match=r"objective = 'mine:NoObjective' is a class, but not an objective: derive"
    ):
        as_objective(NoObjective, "mine:NoObjective")
    with pytest.raises(ObjectiveError, match=r"cannot be created without arguments: .*abstract"):
        as_objective(Objective, "mine:Objective")


def test_unknown_names() -> None:
    with pytest.raises(
        UsageError, match=r"'language_modle': choices are language_model, command .did you mean .*module:function"
    ):
        resolve_objective("language_modle")


def test_an_objective_may_allow_fewer_settings() -> None:
    class Few(TrainingSettings):
        max_iters: Annotated[int, Field(gt=0, le=10)] = 5

    assert read_settings(Few, SETTINGS.model_dump()).max_iters == 4
    with pytest.raises(
        ObjectiveError, match=r"training settings: max_iters=5000: Input should be less than or equal to 10"
    ):
        read_settings(Few, TrainingSettings().model_dump())
