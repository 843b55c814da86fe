"""A study's own modules: where they are looked for, and the objective that is found in them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from objectives.errors import ObjectiveError
from objectives.generators import as_objective
from search.errors import UsageError

OURS = "objectives."


def module_folder(study: str) -> Path | None:
    """The folder of a study file, where its modules are looked for; None for a built-in study or a name."""
    return Path(study).absolute().parent if study.endswith(".toml") else None


def look_in(*folders: Path | None) -> None:
    """Have modules also be looked for in some folders and in the working directory.

    `python -m` looks in the working directory, an installed script does not. Last in the order, so that a file there
    hides no module of an installed package.
    """
    for folder in (*folders, Path.cwd()):
        if folder is not None and str(folder) not in sys.path:
            sys.path.append(str(folder))


def resolve_objective(reference: str) -> Any:
    """What "module:function" names, as a worker calls it: (cell, seed, settings, corpus, device) to a training run.

    Raises:
        UsageError: The module does not import, or has no such function.
        ObjectiveError: It is a function of another kind.
    """
    said = f"objective = {reference!r}"
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise UsageError(f"{said}: the module needs {error.name!r}, which is not installed") from error
        raise UsageError(
            f"{said}: no module {module_name!r} on the Python path; put {module_name}.py beside the study file"
        ) from error
    except (UsageError, ObjectiveError):
        raise
    except Exception as error:  # a person's module may fail at import with anything
        raise UsageError(f"{said}: the module does not import ({type(error).__name__}: {error})") from error
    try:
        found = getattr(module, name)
    except AttributeError as error:
        raise UsageError(f"{said}: {module_name} has no function {name!r}") from error
    return as_objective(found, reference)


def takes_corpus(reference: str) -> bool:
    """Whether an objective trains on a text.

    Raises:
        UsageError, ObjectiveError: As for `resolve_objective`.
    """
    # Ours do, and asking them would load torch, which the launcher of a finished study does without.
    return reference.startswith(OURS) or bool(getattr(resolve_objective(reference), "takes_corpus", True))
