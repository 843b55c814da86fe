"""Pruners by name, which stop trials early; ours read the study's history from memory."""

from __future__ import annotations

import ast
import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, SuccessiveHalvingPruner
from optuna.study import Study
from optuna.trial import FrozenTrial
from pydantic import ValidationError

from search.errors import UsageError
from search.strategies import top_cells
from search.strategies.top_cells import is_maximized
from search.study.pruner_settings import PrunerSettings
from search.study.references import load_registered

# A new pruner is one file and one line here. Optuna's classes (by class name) and a user's ("module:Class") need no
# line. A pruner with a parameter `history` gets the study's history.
PRUNERS: dict[str, str] = {
    "none": "optuna.pruners:NopPruner",
    "top": "search.strategies.top_cells:TopCellsPruner",
    "median": "search.strategies.pruners:MedianPruner",
    "sha": "search.strategies.pruners:successive_halving",
    "hyperband": "search.strategies.pruners:hyperband",
}
OPTUNAS = {name: f"optuna.pruners:{name}" for name in optuna.pruners.__all__ if name != "BasePruner"}


class History(top_cells.History, Protocol):
    """The other trials of the study, as our pruners query them."""

    def complete_values(self, step: int) -> tuple[int, npt.NDArray[np.float64]]:
        """The number of complete trials, and the values (n,) of those that reported at `step`."""


class MedianPruner(optuna.pruners.MedianPruner):
    """Optuna's median pruner; it makes the same decisions from one array instead of a loop over all trials.

    Args:
        history: The finished trials of the study.
        warmup_steps: No trial is pruned before this step.
        min_trials: No trial is pruned before this many trials are complete, in total and at the step.
    """

    def __init__(self, history: History, warmup_steps: int = 2000, min_trials: int = 4) -> None:
        super().__init__(n_startup_trials=min_trials, n_warmup_steps=warmup_steps, n_min_trials=min_trials)
        self._history, self._warmup_steps, self._min_trials = history, warmup_steps, min_trials
        self._medians: dict[int, tuple[int, float | None]] = {}  # by step, with the number of values behind it

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or step < self._warmup_steps:
            return False
        complete, values = self._history.complete_values(step)
        if complete < self._min_trials:
            return False
        own_values = [value for value in trial.intermediate_values.values() if not math.isnan(value)]
        if not own_values:
            return True
        if len(values) < self._min_trials:
            return False
        median = self._median(step, values)
        if median is None:
            return False
        return max(own_values) < median if is_maximized(study) else min(own_values) > median

    def _median(self, step: int, values: npt.NDArray[np.float64]) -> float | None:
        """The median at a step, found once for each number of values; None if all are NaN."""
        known, median = self._medians.get(step, (-1, None))
        if known == len(values):
            return median
        # A NaN is a reported value, so the number of values includes it; the median excludes it.
        numbers = values[~np.isnan(values)]
        # The median between two infinities is NaN, and as in Optuna nothing is pruned then.
        with np.errstate(invalid="ignore"):
            median = float(np.percentile(numbers, 50)) if len(numbers) else None
        self._medians[step] = len(values), median
        return median


def successive_halving(warmup_steps: int = 2000) -> BasePruner:
    """Optuna's successive halving with reduction factor 2; the first rung is at `warmup_steps`."""
    return SuccessiveHalvingPruner(min_resource=max(1, warmup_steps), reduction_factor=2)


def hyperband(warmup_steps: int = 2000) -> BasePruner:
    """Optuna's hyperband with reduction factor 2; the first rung is at `warmup_steps`."""
    return HyperbandPruner(min_resource=max(1, warmup_steps), reduction_factor=2)


def make_pruner(settings: PrunerSettings, history: History, named: str | None = None) -> BasePruner:
    """The pruner that `settings` name; steps are training steps.

    Args:
        history: The trials that it compares a trial with.
        named: Where the settings are written, for messages.

    Raises:
        UsageError: There is no such pruner, or it does not accept the arguments.
    """
    named = named or f"pruner.name = {settings.name!r}"
    make = load_registered(named, settings.name, PRUNERS | OPTUNAS)
    taken = _parameters(make, named)
    arguments = dict(settings.arguments)
    if "wrapped_pruner" in taken:
        wrapped = arguments.get("wrapped_pruner")
        inner = None if wrapped is None else _settings(wrapped, named)
        arguments["wrapped_pruner"] = None if inner is None else make_pruner(inner, history, named)
    if "history" in taken:
        arguments["history"] = history
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls some of its pruners experimental
        try:
            made = make(**arguments)
        except (TypeError, ValueError) as error:
            takes = ", ".join(name for name in taken if name != "history") or "nothing"
            fault = str(error).replace(f"{make.__name__}.__init__() ", "").replace(f"{make.__name__}() ", "")
            raise UsageError(f"{named}: {fault.splitlines()[0].rstrip('.')}; it takes {takes}") from error
    if not isinstance(made, BasePruner):
        raise UsageError(f"{named} is not a pruner; derive it from optuna.pruners.BasePruner")
    return made


def _parameters(make: Callable[..., Any], named: str) -> list[str]:
    if not callable(make):
        raise UsageError(f"{named} names {make!r}, which is not a class; derive one from optuna.pruners.BasePruner")
    try:
        return list(inspect.signature(make).parameters)
    except ValueError as error:  # a class in C
        raise UsageError(f"{named} is not a pruner; derive it from optuna.pruners.BasePruner") from error


def _settings(value: object, named: str) -> PrunerSettings:
    if isinstance(value, Mapping) and (misplaced := value.keys() & {"metric", "direction"}):
        raise UsageError(f"{named}: wrapped_pruner has the key {min(misplaced)}; write that beside it, in [pruner]")
    if isinstance(value, (str, Mapping)) and (isinstance(value, str) or "name" in value):
        return PrunerSettings.model_validate(value)
    raise UsageError(f"{named}: wrapped_pruner = {value!r}; write it as {{ name = NAME, ARGUMENT = VALUE }}")


def read_pruner(text: str, before: PrunerSettings | None = None) -> PrunerSettings:
    """The pruner that the command line names: NAME, or NAME(ARGUMENTS) in Python's syntax.

    Args:
        text: Such as "median" or "PercentilePruner(25.0, n_warmup_steps=500)".
        before: The pruner that it replaces; its metric stays, and `PrunerSettings.with_name` may keep its settings.

    Raises:
        UsageError: There is no such pruner, or it does not accept these arguments.
    """
    named = f"--pruner {text}"
    before = before or PrunerSettings()
    if "(" in text:
        settings = _called(text, named)
        if settings.metric is None:
            settings = settings.model_copy(update={"metric": before.metric, "direction": before.direction})
    else:
        settings = before.with_name(text)
    check_pruner(settings, named)
    return settings


def _called(text: str, named: str) -> PrunerSettings:
    try:
        return PrunerSettings.model_validate(_read_call(ast.parse(text, mode="eval").body, named))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"{named}: {key} = {first['input']!r}: {first['msg']}") from error
    except UsageError:
        raise
    except (SyntaxError, ValueError) as error:
        fault = str(error).splitlines()[0]
        step = "write NAME or NAME(ARGUMENTS), such as ThresholdPruner(upper=4.5)"
        raise UsageError(f"{named}: {fault}; {step}") from error


def _read_call(node: ast.expr, named: str) -> Any:
    """A call as {"name": …, argument: value}; any other expression as its value."""
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    name = ast.unparse(node.func)
    make = load_registered(named, name, PRUNERS | OPTUNAS)
    parameters = [parameter for parameter in _parameters(make, named) if parameter != "history"]
    if len(node.args) > len(parameters):
        raise UsageError(f"{named}: {name} takes {', '.join(parameters) or 'nothing'}")
    values = dict(zip(parameters, node.args, strict=False)) | {str(each.arg): each.value for each in node.keywords}
    return {"name": name, **{key: _read_call(value, named) for key, value in values.items()}}


class _NoHistory:
    """The history of a study without trials."""

    def ended(self) -> list[FrozenTrial]:
        return []

    def running(self) -> list[FrozenTrial]:
        return []

    def complete_values(self, step: int) -> tuple[int, npt.NDArray[np.float64]]:
        return 0, np.empty(0)


def check_pruner(settings: PrunerSettings, named: str | None = None) -> None:
    """Check that a pruner can be made, before anything is planned.

    Raises:
        UsageError: As for `make_pruner`.
    """
    make_pruner(settings, _NoHistory(), named)
