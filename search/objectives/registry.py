"""The names of the objectives, and how a user's function or class becomes one. No torch here."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from search.objectives.corpus import Corpus
from search.objectives.errors import ObjectiveError
from search.objectives.protocol import Objective, ObjectiveCall, RunGroup, TrainingRun
from search.objectives.settings import TrainingSettings

DEFAULT_OBJECTIVE, COMMAND = "language_model", "command"
# Adding an objective is one file and one line here. A user's own objective needs no line: "module:name" names it.
OBJECTIVES: dict[str, str] = {
    DEFAULT_OBJECTIVE: "search.objectives.language_model.objective:LanguageModelObjective",
    COMMAND: "search.objectives.command.objective:CommandObjective",
}

Check = Callable[[Mapping[str, Any], TrainingSettings, Corpus | None], None]


@dataclass(frozen=True)
class FunctionObjective(Objective):
    """A user's function that makes a run, with the optional functions of its module.

    Attributes:
        function: Makes a run from (cell, seed, settings, corpus, device).
        check: `check_cell` of the module; None leaves cells unchecked, so a wrong cell fails as a trial.
        stack: `stack_runs` of the module; None trains every run alone.
        measure: `group_size` of the module.
    """

    function: Callable[..., TrainingRun | ObjectiveCall]
    check: Check | None = None
    stack: Callable[[Sequence[TrainingRun]], RunGroup] | None = None
    measure: Callable[..., int] | None = None

    @property
    def takes_corpus(self) -> bool:
        """True unless the function's attribute `takes_corpus` is false."""
        return bool(getattr(self.function, "takes_corpus", True))

    @property
    def can_stack(self) -> bool:
        """Whether the module has `stack_runs`."""
        return self.stack is not None

    def check_cell(self, cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus | None) -> None:
        """As `Objective.check_cell`."""
        if self.check is not None:
            self.check(cell, settings, corpus)

    def start(
        self, cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> TrainingRun | ObjectiveCall:
        """As `Objective.start`."""
        return self.function(cell, seed, settings, corpus, device)

    def stack_runs(self, runs: Sequence[TrainingRun]) -> RunGroup:
        """As `Objective.stack_runs`."""
        assert self.stack is not None, "can_stack is False"
        return self.stack(runs)

    def group_size(
        self, cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> int:
        """As `Objective.group_size`."""
        return 1 if self.measure is None else int(self.measure(cell, settings, corpus, device))


def as_objective(found: object, reference: str, module: ModuleType | None = None) -> Objective:
    """Make an objective from what a study file's `objective` names.

    Args:
        found: An `Objective`, a class of one, a generator function, a function that makes a `TrainingRun`, one that
            takes arguments by name and returns a number or numbers by metric, or an objective function of Optuna.
        reference: "module:name", for messages.
        module: Can define `check_cell`, `stack_runs` and `group_size` for a function.

    Raises:
        ObjectiveError: `found` is none of these.
    """
    # Only what runs an objective needs these.
    from search.objectives.generator_run import shortened
    from search.objectives.python_function import (
        GeneratorObjective,
        OptunaObjective,
        ReturningObjective,
        is_optuna_objective,
        taken_arguments,
    )

    named = f"objective = {reference!r}"
    # The class of a run counts as a function: it makes a run from the five arguments.
    if inspect.isclass(found) and (Objective in found.__mro__ or not _takes_run_arguments(found)):
        return _of_class(found, reference, named)
    if isinstance(found, Objective):
        return found
    if not callable(found):
        raise ObjectiveError(f"{named} names {shortened(found)}, which is not a function")
    if inspect.isgeneratorfunction(inspect.unwrap(found)):
        check_cell = _module_attribute("check_cell", found, module)
        return GeneratorObjective(found, reference, taken_arguments(found, named), check_cell)
    if is_optuna_objective(found):
        return OptunaObjective(found)
    if not _takes_run_arguments(found):
        check_cell = _module_attribute("check_cell", found, module)
        return ReturningObjective(found, reference, taken_arguments(found, named), check_cell)
    optional = (_module_attribute(name, found, module) for name in ("check_cell", "stack_runs", "group_size"))
    return FunctionObjective(found, *optional)


def _of_class(found: type, reference: str, named: str) -> Objective:
    try:
        made = found()
    except TypeError as error:
        raise ObjectiveError(f"{named} cannot be created without arguments: {error}") from error
    if isinstance(made, Objective):
        return made
    if callable(made):
        return as_objective(made, reference)
    raise ObjectiveError(
        f"{named} is a class, but not an objective: derive it from search.objectives.protocol.Objective, or give it "
        "__call__(self, trial)"
    )


def _module_attribute(name: str, function: object, module: ModuleType | None) -> Any:
    """An attribute of the module that a study file names, or else of the function's module; None without one."""
    modules = (module, sys.modules.get(getattr(function, "__module__", "")))
    return next((found for each in modules if (found := getattr(each, name, None)) is not None), None)


def _takes_run_arguments(function: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(function)
        signature.bind("cell", "seed", "settings", "corpus", "device")
        return "params" not in signature.parameters
    except TypeError:
        return False
    except ValueError:  # a function written in C has no signature
        return True
