"""A study's own modules: the folders to search for them, and the objective that they define."""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from optuna.study import Study

from search.errors import USER_ERRORS, UsageError
from search.imports import without_plugins
from search.objectives.protocol import Objective
from search.objectives.registry import COMMAND, OBJECTIVES, as_objective
from search.study.module_finder import study_folder, use_study_folder
from search.study.names import is_study_file
from search.study.no_arguments import ArgumentsMissing, without_arguments
from search.study.validation_messages import did_you_mean

if TYPE_CHECKING:
    from search.study.stored import StoredDefinition

log = logging.getLogger("search")

OURS = "search."
_IMPORTLIB = Path(importlib.__file__).parent
# The modules that `import_user_module` is importing now.
_importing: list[str] = []
# Old names of built-in objectives in study files of lm-search 0.1. Only messages use them: a user's module may have
# the same name.
MOVED = {"objectives.language_model:start": "language_model"}


def module_folder(study: str) -> Path | None:
    """The folder of a study file, which may contain its modules; None for a built-in study or a name."""
    return Path(study).absolute().parent if is_study_file(study) else None


def extend_sys_path(folder: Path | None) -> None:
    """Search the study's folder for its modules, or the working directory if it has no folder.

    Both are also appended to `sys.path`: `python -m` searches the working directory first, but an installed script and
    a process that was started with -P do not search it.

    Args:
        folder: The folder of the study file; None for a built-in study or a name.
    """
    use_study_folder(folder or Path.cwd())
    for each in (folder, Path.cwd()):
        if each is not None and str(each) not in sys.path:
            sys.path.append(str(each))


def import_user_module(module: str, named: str) -> ModuleType:
    """Import a module that a study names.

    Args:
        named: Where it is named, for the message.

    Raises:
        UsageError: The module does not exist, or its import fails.
    """
    _importing.append(module)
    try:
        with _refusing_optimize(), without_arguments() as parsed:
            found = importlib.import_module(module)
        if parsed:
            log.warning(
                "warning: the module %r reads the command line when it is imported, and gets no arguments, so each has "
                "its default; give values that vary to the study file",
                module,
            )
        return found
    except USER_ERRORS:
        raise
    except ArgumentsMissing as error:
        raise UsageError(
            f"{named}: the module {module!r} reads the command line when it is imported, and gets no arguments "
            f"(argparse: {error.message}); give them defaults, or read it under: if __name__ == '__main__':"
        ) from error
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise UsageError(f"{named}: the module {module!r} needs {error.name!r}, which is not installed") from error
        raise UsageError(
            f"{named}: no module {module!r} on the Python path; put {module}.py beside the study file"
        ) from error
    except SystemExit as error:
        raise UsageError(
            f"{named}: the module {module!r} exits when it is imported ({_describe(error)}); put what it does as a "
            "script under: if __name__ == '__main__':"
        ) from error
    except Exception as error:  # a script that is imported can raise anything
        raise UsageError(
            f"{named}: the import of the module {module!r} failed{_place_of(error)} ({_describe(error)})"
        ) from error
    finally:
        _importing.pop()


@contextmanager
def _refusing_optimize() -> Iterator[None]:
    """Refuse `study.optimize` in a script that is imported for its objective: it would train there and then."""
    optimize = Study.optimize

    def refuse(*_arguments: object, **_named: object) -> None:
        refuse_while_importing("study.optimize")

    Study.optimize = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        Study.optimize = optimize  # type: ignore[method-assign]


def refuse_while_importing(call: str) -> None:
    """Refuse a call in a module that a study imports: each worker would run the whole study again.

    Args:
        call: The function that is called, for the message.

    Raises:
        UsageError: Such a module is being imported.
    """
    if _importing:
        raise UsageError(
            f"the module {_importing[-1]!r} calls {call} when it is imported, which worker processes do too; put the "
            "call under: if __name__ == '__main__':"
        )


def _place_of(error: BaseException) -> str:
    """Which line of the imported module raised an error; "" for one that could not be read."""
    ours = str(Path(__file__).parent)
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith(("<", ours))]
    lines = [each for each in frames if Path(each.filename).parent != _IMPORTLIB]
    return f" at {Path(lines[0].filename).name} line {lines[0].lineno}" if lines else ""


def _describe(error: BaseException) -> str:
    at = f" at line {error.lineno}" if isinstance(error, SyntaxError) else ""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}{at}: {message}"


def resolve_objective(reference: str) -> Objective:
    """The objective that a study names.

    Args:
        reference: A name of `search.objectives.registry.OBJECTIVES`, or a user's "module:name".

    Raises:
        UsageError: The name is unknown, or the module cannot be imported or lacks it.
        ObjectiveError: The named object is not an objective.
    """
    named = f"objective = {reference!r}"
    module_name, colon, name = OBJECTIVES.get(reference, reference).partition(":")
    if not colon:
        raise UsageError(
            f"{named}: choices are {', '.join(OBJECTIVES)}{did_you_mean(reference, OBJECTIVES)}, or your own as "
            f"module:function"
        )
    if reference in MOVED:
        named += f" (the built-in objective is now called {MOVED[reference]!r})"
    with without_plugins():  # which are for a user's models, not for ours
        importlib.import_module("search.objectives.python_function")
        if reference in OBJECTIVES:
            importlib.import_module(module_name)
    module = import_user_module(module_name, named)
    found = getattr(module, name, None)
    if found is None:
        functions = [each for each, value in vars(module).items() if callable(value)]
        raise UsageError(f"{named}: the module {module_name!r} has no function {name!r}{did_you_mean(name, functions)}")
    try:
        with without_arguments():  # a class is created
            objective = as_objective(found, reference, module)
    except USER_ERRORS:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{named} cannot be created{_place_of(error)} ({_describe(error)})") from error
    if reference != COMMAND:
        return objective
    from search.objectives.command.objective import CommandObjective

    assert isinstance(objective, CommandObjective)
    return replace(objective, folder=_folder())


def _folder() -> Path:
    return study_folder() or Path.cwd()


def takes_corpus(reference: str) -> bool:
    """Whether an objective trains on a text.

    Raises:
        UsageError, ObjectiveError: As for `resolve_objective`.
    """
    return resolve_objective(reference).takes_corpus


def user_sources(definition: StoredDefinition) -> tuple[list[str], list[Path]]:
    """The modules of `user_modules`, and the files that a planned study's command names."""
    if definition.objective != COMMAND:
        return user_modules(definition), []
    from search.objectives.command.objective import sources

    return user_modules(definition), sources(definition.objective_settings, _folder())


def user_modules(definition: StoredDefinition) -> list[str]:
    """The modules of a planned study's objective and models that are not part of lm-search."""
    references = [each for each in (definition.objective, *definition.models) if isinstance(each, str) and ":" in each]
    modules = {reference.partition(":")[0]: None for reference in references}
    return [module for module in modules if not module.startswith(OURS)]
