"""A user's plain function as an objective: a generator function, a function that returns its result, or one of Optuna's
objective functions. No torch."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict

from search.objectives.corpus import Corpus
from search.objectives.errors import ObjectiveError
from search.objectives.generator_run import GeneratorRun
from search.objectives.protocol import Attempt, Objective
from search.objectives.settings import TrainingSettings

# The arguments that a function can take, by name.
ARGUMENTS = ("params", "seed", "settings", "corpus", "device", "trial")


class UserSettings(TrainingSettings):
    """The training settings, and any others that a study file has under [settings]: `settings.epochs`."""

    model_config = ConfigDict(extra="allow")
    section = "settings"

    def __getitem__(self, name: str) -> Any:
        """The setting `name`."""
        try:
            return getattr(self, name)
        except AttributeError as error:
            raise KeyError(name) from error


@dataclass(frozen=True)
class _UserFunction(Objective):
    """A user's function that takes its arguments by name.

    Attributes:
        function: Takes some of `ARGUMENTS`.
        reference: "module:function".
        taken: Those that it takes.
        check: `check_cell` of its module; None leaves cells unchecked.
    """

    function: Callable[..., Any]
    reference: str
    taken: frozenset[str]
    check: Callable[[Mapping[str, Any], TrainingSettings, Corpus | None], None] | None = None

    @property
    def takes_corpus(self) -> bool:
        """Whether it takes a text."""
        return "corpus" in self.taken

    @property
    def settings_class(self) -> type[TrainingSettings]:
        """Any settings."""
        return UserSettings

    def takes_seed(self, settings: TrainingSettings) -> bool:
        """Whether the function has a parameter seed."""
        return "seed" in self.taken

    def check_cell(self, cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus | None) -> None:
        """As `Objective.check_cell`."""
        if self.check is not None:
            self.check(cell, settings, corpus)

    def _arguments(
        self, cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> dict[str, Any]:
        given = {"params": dict(cell), "seed": seed, "settings": settings, "corpus": corpus, "device": device}
        return {name: value for name, value in given.items() if name in self.taken}


class GeneratorObjective(_UserFunction):
    """Makes a run of a generator function for a cell and a seed."""

    def start(
        self, cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> GeneratorRun:
        """Make a run at step 0."""
        arguments = self._arguments(cell, seed, settings, corpus, device)
        takes_trial = "trial" in self.taken

        def begin(attempt: Attempt) -> Iterator[Any]:
            trial = {"trial": attempt.make_trial()} if takes_trial else {}
            yielded: Iterator[Any] = self.function(**arguments, **trial)
            return yielded

        identity = json.dumps({"cell": dict(cell), "seed": seed}, sort_keys=True)
        return GeneratorRun(self.reference, begin, identity, settings.max_iters)


@dataclass(frozen=True)
class FunctionCall:
    """Implements `search.objectives.protocol.ObjectiveCall`.

    Attributes:
        function: Takes the trial and returns the result.
    """

    function: Callable[[Any], object]

    def call(self, trial: Any) -> object:
        """Call the function."""
        return self.function(trial)


class ReturningObjective(_UserFunction):
    """Calls a function that returns a number, or numbers by metric."""

    @property
    def metric(self) -> str:
        """The name of the value."""
        return "value"

    def start(
        self, cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> FunctionCall:
        """Prepare the call."""
        arguments = self._arguments(cell, seed, settings, corpus, device)
        takes_trial = "trial" in self.taken
        return FunctionCall(lambda trial: self.function(**arguments, **({"trial": trial} if takes_trial else {})))


@dataclass(frozen=True)
class OptunaObjective(Objective):
    """Calls an objective function as Optuna's `study.optimize` takes it.

    Attributes:
        function: Takes the trial and returns a number or several.
    """

    function: Callable[[Any], object]

    @property
    def takes_corpus(self) -> bool:
        """It reads its data itself."""
        return False

    @property
    def suggests_parameters(self) -> bool:
        """It chooses its parameters itself."""
        return True

    @property
    def metric(self) -> str:
        """The name of the value."""
        return "value"

    @property
    def settings_class(self) -> type[TrainingSettings]:
        """Any settings: they reach it as `trial.settings`."""
        return UserSettings

    def takes_seed(self, settings: TrainingSettings) -> bool:
        """It draws its random numbers itself."""
        return False

    def start(
        self, cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> FunctionCall:
        """Prepare the call."""
        return FunctionCall(self.function)


def is_optuna_objective(function: Callable[..., Any]) -> bool:
    """Whether a callable takes one positional argument, which is not one of the `ARGUMENTS` other than `trial`."""
    try:
        signature = inspect.signature(function)
        signature.bind("trial")
    except TypeError:
        return False
    except ValueError:  # a function written in C has no signature
        return False
    required = [each for each in signature.parameters.values() if each.default is inspect.Parameter.empty]
    names = [each.name for each in required if each.kind is not inspect.Parameter.VAR_POSITIONAL]
    return not (set(names) & (set(ARGUMENTS) - {"trial"})) and all(
        each.kind is not inspect.Parameter.KEYWORD_ONLY for each in required
    )


def taken_arguments(function: Callable[..., Any], named: str) -> frozenset[str]:
    """Which of `ARGUMENTS` a function takes.

    Args:
        named: How the study file names it, for the message.

    Raises:
        ObjectiveError: The function requires another argument.
    """
    parameters = inspect.signature(function).parameters
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    unknown = [
        name
        for name, parameter in parameters.items()
        if name not in ARGUMENTS and parameter.default is inspect.Parameter.empty and parameter.kind not in variable
    ]
    if unknown:
        raise ObjectiveError(
            f"{named} takes {', '.join(unknown)}, but a function can take only {', '.join(ARGUMENTS)}; "
            f"the values of a cell are in params"
        )
    return frozenset(parameters) & frozenset(ARGUMENTS)
