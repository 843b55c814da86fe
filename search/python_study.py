"""A study of a Python caller, a dictionary or an objective function, as a study file."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.errors import UsageError
from search.objectives.corpus import source_in
from search.reporting.toml_export import as_toml
from search.storage.private_files import make_private_folder, open_private
from search.study.axis_tables import without_none
from search.study.main_source import module_files
from search.study.names import name_fault
from search.study.overrides import python_value

FILE = "study.toml"


@dataclass(frozen=True)
class StudyFile:
    """A study file.

    Attributes:
        modules: The folder with its modules if that is not the file's.
        made: The folder that was made for it.
    """

    path: str
    modules: Path | None = None
    made: Path | None = None

    def remove(self) -> None:
        """Remove what was made for a study that was refused."""
        if self.made is not None:
            shutil.rmtree(self.made, ignore_errors=True)
            for parent in (self.made.parent, self.made.parent.parent):
                with contextlib.suppress(OSError):  # it has other files
                    parent.rmdir()


def study_file(study: Any, keys: Mapping[str, Any], out: Path) -> StudyFile:
    """The study file of what `run_study` was given; it is written for a dictionary or a function.

    Args:
        study: A built-in name, a path, the content of a study file, or an objective function.
        keys: Further keys of the content.
        out: The folder to write in: `<out>/<name>/study-<digest>/study.toml`.

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
    files: dict[str, bytes] = {}
    modules = None
    if callable(objective):
        content["objective"], modules, files = _reference(objective, name)
    if isinstance(content.get("corpus"), (str, os.PathLike)):
        content["corpus"] = source_in(Path.cwd(), str(content["corpus"]))
    read = {key: python_value(value, f"{key} = {value!r}") for key, value in content.items()}
    files[FILE] = as_toml(without_none(read)).encode()
    try:
        return _written(files, out / name, modules)
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror}; choose another --out") from error


def _written(files: Mapping[str, bytes], parent: Path, modules: Path | None) -> StudyFile:
    """Write a study in a folder of its own: workers of another study may be importing from another one."""
    digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:8]
    folder = parent / f"study-{digest}"
    is_new = not folder.exists()
    make_private_folder(folder)
    for file, content in files.items():
        with open_private(folder / file, "wb") as target:
            target.write(content)
    importlib.invalidate_caches()
    return StudyFile(str(folder / FILE), modules, folder if is_new else None)


def _reference(function: Callable[..., Any], name: str) -> tuple[str, Path | None, dict[str, bytes]]:
    """How a study file names a function, the folder of its module if there is one, and the files of a new module."""
    module, qualified = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module == "__main__":
        written = f"notebook_{re.sub(r'[^A-Za-z0-9_]', '_', name)}"
        return f"{written}:{qualified}", None, module_files(written, function)
    loaded = sys.modules.get(str(module))
    if loaded is None or getattr(loaded, qualified, None) is not function:
        raise UsageError(
            f"the objective {function!r} cannot be imported by worker processes: it is no function at the top level of "
            "a module; define it with def in a notebook or a file"
        )
    return f"{module}:{qualified}", _folder_of(loaded.__name__, getattr(loaded, "__file__", None)), {}


def _folder_of(module: str, file: str | None) -> Path | None:
    """The folder that a module is imported from."""
    if file is None:
        return None
    path = Path(file).absolute()
    return path.parents[module.count(".") + (path.name == "__init__.py")]
