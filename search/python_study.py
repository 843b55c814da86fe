"""A study of a Python caller, a dictionary or an objective function, as a study file."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.reporting.toml_export import as_toml
from search.storage.private_files import make_private_folder, open_private
from search.study.axis_tables import without_none
from search.study.main_source import write_module
from search.study.names import name_fault
from search.study.overrides import python_value

FILE = "study.toml"


@dataclass(frozen=True)
class StudyFile:
    """A study file, and the folder with its modules if that is another one."""

    path: str
    modules: Path | None = None


def study_file(study: Any, keys: Mapping[str, Any], out: Path) -> StudyFile:
    """The study file of what `run_study` was given; it is written for a dictionary or a function.

    Args:
        study: A built-in name, a path, the content of a study file, or an objective function.
        keys: Further keys of the content.
        out: The folder to write in: `<out>/<name>/study.toml`.

    Raises:
        UsageError: `study` is none of these; or worker processes cannot import the function.
    """
    if isinstance(study, (str, os.PathLike)):
        return StudyFile(os.fspath(study))
    if not isinstance(study, Mapping) and not callable(study):
        raise UsageError(
            f"study: a value of type {type(study).__name__} is no study; give a name, the path of a study file, a "
            "dictionary with its keys, or an objective function"
        )
    content = {**study, **keys} if isinstance(study, Mapping) else {"objective": study, **keys}
    objective = content.get("objective")
    function_name = getattr(objective, "__name__", "")
    name = content.setdefault("name", function_name if function_name.isidentifier() else "study")
    if not isinstance(name, str) or (fault := name_fault(name)):
        raise UsageError(f"name = {name!r}: {fault if isinstance(name, str) else 'it is not a text'}")
    folder, modules = out / name, None
    try:
        make_private_folder(folder)
        if callable(objective):
            content["objective"], modules = _reference(objective, name, folder)
        if isinstance(content.get("corpus"), (str, os.PathLike)):
            content["corpus"] = str(Path(content["corpus"]).absolute())
        read = {key: python_value(value, f"{key} = {value!r}") for key, value in content.items()}
        text = as_toml(without_none(read))
        with open_private(folder / FILE, "w") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror}; choose another --out") from error
    return StudyFile(str(folder / FILE), modules)


def _reference(function: Callable[..., Any], name: str, folder: Path) -> tuple[str, Path | None]:
    """How a study file names a function, and the folder with its module if it is not the study's own."""
    module, qualified = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module == "__main__":
        written = f"notebook_{re.sub(r'[^A-Za-z0-9_]', '_', name)}"
        write_module(folder, written, function)
        return f"{written}:{qualified}", None
    loaded = sys.modules.get(str(module))
    if loaded is None or getattr(loaded, qualified, None) is not function:
        raise UsageError(
            f"the objective {function!r} cannot be imported by worker processes: it is no function at the top level of "
            "a module; define it with def in a notebook or a file"
        )
    return f"{module}:{qualified}", _folder_of(loaded.__name__, getattr(loaded, "__file__", None))


def _folder_of(module: str, file: str | None) -> Path | None:
    """The folder that a module is imported from."""
    if file is None:
        return None
    path = Path(file).absolute()
    return path.parents[module.count(".") + (path.name == "__init__.py")]
