"""Finds a study's modules in its folder first, but never replaces ours or our dependencies.

A research folder often holds `models/`, `data.py` or `utils.py`, and so do many installed packages. The folder wins for
the study's imports. It never replaces the standard library, lm-search, or a package that lm-search depends on: a file
`typer.py` beside a study must not run in every worker.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

DISTRIBUTION = "lm-search"
# When lm-search runs from its sources, no metadata lists its dependencies.
_DIRECT = ("torch", "optuna", "optuna-dashboard", "sqlalchemy", "pydantic", "typer", "rich", "plotly", "scipy", "numpy",
           "waitress", "jinja2", "safetensors", "alembic", "pyyaml", "psycopg", "boto3")  # fmt: skip


class StudyFolderFinder:
    """A meta path finder for the top-level modules of one folder.

    Args:
        folder: The study's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module of that name in the folder; None leaves the search to the other finders."""
        if path is not None or name == "search" or name in sys.stdlib_module_names:
            return None
        spec = self._in_folder(name)
        if spec is None or (_is_installed(name, self.folder) and name in dependency_modules()):
            return None
        return spec

    def _in_folder(self, name: str) -> ModuleSpec | None:
        package = self.folder / name
        spec = PathFinder.find_spec(name, [str(self.folder)])
        if spec is None or spec.loader is not None:
            return spec
        # A folder without __init__.py. One without code, such as data/, is not a package.
        if not any(package.glob("*.py")) and not any(package.glob("*/*.py")):
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(package)]
        return spec


def study_folder() -> Path | None:
    """The folder that `use_study_folder` was given last."""
    return next((finder.folder for finder in sys.meta_path if isinstance(finder, StudyFolderFinder)), None)


def use_study_folder(folder: Path) -> None:
    """Search `folder` first for a study's imports; it replaces the folder of an earlier study."""
    earlier = [finder for finder in sys.meta_path if isinstance(finder, StudyFolderFinder)]
    if [finder.folder for finder in earlier] == [folder]:
        return
    for finder in earlier:
        sys.meta_path.remove(finder)
        _forget_modules(finder.folder, folder)
    sys.meta_path.insert(0, StudyFolderFinder(folder))


def _forget_modules(earlier: Path, folder: Path) -> None:
    """Unload an earlier study's modules whose names the new study's folder has too, so they are imported again."""
    finder = StudyFolderFinder(folder)
    for name, module in list(sys.modules.items()):
        if "." in name or not _lies_in(module, earlier) or finder.find_spec(name) is None:
            continue
        for loaded in [each for each in sys.modules if each == name or each.startswith(f"{name}.")]:
            del sys.modules[loaded]


def _lies_in(module: ModuleType, folder: Path) -> bool:
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    return any(place and Path(place).is_relative_to(folder) for place in places)


def _is_installed(name: str, folder: Path) -> bool:
    elsewhere = [entry for entry in sys.path if Path(entry or ".").absolute() != folder]
    spec = PathFinder.find_spec(name, elsewhere)
    return spec is not None and spec.loader is not None


@functools.cache
def dependency_modules() -> frozenset[str]:
    """The installed top-level modules of lm-search's direct and indirect dependencies."""
    waiting, seen = [DISTRIBUTION, *_DIRECT], set[str]()
    while waiting:
        name = _normalized(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        # Extras count too: installed ones may be imported later.
        waiting += [re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in requires]
    modules = metadata.packages_distributions()
    return frozenset(name for name, owners in modules.items() if not seen.isdisjoint(map(_normalized, owners)))


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
