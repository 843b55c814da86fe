"""`status` and `report` read a study without importing the code that trains one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from finished_studies import completed, ended_study
from study_files import sqlite

HEAVY = ("torch", "search.workers", "search.launchers", "search.service", "plotly", "pandas", "alembic")


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["status", "--json"],
        ["report"],
        ["report", "--format", "json"],
        ["report", "--format", "latex"],
        ["report", "--output", "page.html"],
    ],
    ids=" ".join,
)
def test_of_a_finished_study(command: list[str], finished: Any, work_folder: Path) -> None:
    check(command, finished.storage, HEAVY)
    assert command[-1] != "page.html" or list(work_folder.iterdir())


def test_of_one_seed(tmp_path: Path, work_folder: Path) -> None:
    """Only several seeds need SciPy, whose import takes a third of a report."""
    with ended_study(tmp_path, completed, seeds=1):
        check(["report", "--output", "page.html"], sqlite(tmp_path), (*HEAVY, "scipy"))


def check(command: list[str], storage: str, heavy: Sequence[str]) -> None:
    program, *arguments = command
    code = (
        "import sys\n"
        f"from search.{program} import app\n"
        f"sys.argv = ['{program}', '--study', 'small', '--storage', {storage!r}, *{arguments}]\n"
        "try:\n"
        "    app()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"loaded = [name for name in sys.modules if name.startswith(tuple({heavy}))]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout or command[-1] == "page.html"
