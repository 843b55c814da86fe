"""Functions of a notebook or a script as modules that worker processes can import."""

from __future__ import annotations

import importlib
import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from search.errors import UsageError
from search.study.main_source import module_files

Main = Callable[..., ModuleType]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Main:
    """Makes `__main__` of the cells of a notebook, each compiled as IPython does."""

    def make(*cells: str) -> ModuleType:
        module = ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", module)
        for at, cell in enumerate(cells):
            name = f"<cell {at}>"
            monkeypatch.setitem(linecache.cache, name, (len(cell), None, cell.splitlines(keepends=True), name))
            exec(compile(cell, name, "exec"), vars(module))
        return module

    return make


def written(folder: Path, function: Any, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name, content in module_files("of_notebook", function).items():
        (folder / name).write_bytes(content)
    importlib.invalidate_caches()
    monkeypatch.syspath_prepend(str(folder))
    found = importlib.import_module("of_notebook")
    sys.modules.pop("of_notebook")
    return found


def test_all_that_a_function_uses(main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = main(
        "import math as m\nimport os.path\nfrom collections import Counter\nfrom dataclasses import dataclass, field\n"
        "import numpy as np\nimport threading\nUNUSED = threading.Lock()\n",
        "OFFSET = 2\nDATA = np.arange(4.0)\nNAMES = {'a': (1, None)}\nBIG = list(range(5000))\n",
        "class Base:\n    scale = OFFSET\nclass Child(Base):\n    def size(self):\n        return len(BIG)\n",
        "@dataclass\nclass Config:\n    width: int = 3\n    parts: list = field(default_factory=list)\n",
        "from functools import lru_cache\n@lru_cache\ndef cached(x):\n    return m.floor(x)\n",
        "def helper(x, again=True):\n    return objective(x, False) if again else cached(x) + DATA.sum()\n",
        "def objective(x, more=True):\n    if not more:\n        return Child.scale\n"
        "    return [helper(x), helper(x, False), Child().size(), Config().width, NAMES['a'], Counter('aa')['a']]\n",
    )
    found = written(tmp_path, module.objective, monkeypatch)
    assert found.objective(1.5) == module.objective(1.5) == [2, 7.0, 5000, 3, (1, None), 2]
    assert not hasattr(found, "UNUSED")


def test_modules_of_a_package_are_imported(main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures" / "inner").mkdir(parents=True)
    for name in ("pictures", "pictures/inner"):
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "pictures" / "inner" / "leaf.py").write_text("VALUE = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = main(
        "import pictures.inner.leaf\nimport pictures.inner as other\nimport os as pathlib\n",
        "def objective():\n    return [pictures.inner.leaf.VALUE, other.leaf.VALUE, pathlib.path.sep]\n",
    )
    [content] = module_files("of_notebook", module.objective).values()
    (tmp_path / "of_notebook.py").write_bytes(content)
    for name in ("pictures", "pictures.inner", "pictures.inner.leaf"):
        monkeypatch.delitem(sys.modules, name)  # as in a worker, which has not loaded them
    found = importlib.import_module("of_notebook")
    sys.modules.pop("of_notebook")
    assert found.objective() == [3, 3, "/"]


def test_a_changed_function_is_written_anew(main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in (1, 2):
        module = main(f"def objective():\n    return {at}\n")
        assert written(tmp_path, module.objective, monkeypatch).objective() == at


@pytest.mark.parametrize(
    ("cell", "name", "message"),
    [
        ("objective = lambda x: x\n", "objective", "has no name at the top level"),
        ("def make():\n    def objective(): ...\n    return objective\nf = make()\n", "f", "has no name at the top"),
        (
            "def make():\n    def inner(): return 1\n    return inner\nhelp = make()\ndef f(): return help()\n",
            "f",
            r"make.<locals>.inner is defined inside another function",
        ),
        ("class Thing: ...\nTHING = Thing()\ndef f(): return THING\n", "f", "the objective uses 'THING', which worker"),
        ("import threading\nLOCK = threading.Lock()\ndef f(): return LOCK\n", "f", "the objective uses 'LOCK', which"),
    ],
)
def test_what_cannot_be_written(main: Main, tmp_path: Path, cell: str, name: str, message: str) -> None:
    module = main(cell)
    with pytest.raises(UsageError, match=message):
        module_files("of_notebook", getattr(module, name))


def test_without_source(main: Main, tmp_path: Path) -> None:
    module = main("def objective(): ...\n")
    linecache.cache.pop("<cell 0>")
    with pytest.raises(UsageError, match=r"the source of objective is not known; put it into a file, such as train.py"):
        module_files("of_notebook", module.objective)
