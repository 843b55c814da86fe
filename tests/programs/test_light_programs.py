"""`status` and `report` read a study without importing the code that trains one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HEAVY = ("torch", "search.workers", "search.launchers", "search.service", "scipy", "plotly", "pandas", "alembic")


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
    program, *arguments = command
    code = (
        "import sys\n"
        f"from search.{program} import app\n"
        f"sys.argv = ['{program}', '--study', 'small', '--storage', {finished.storage!r}, *{arguments}]\n"
        "try:\n"
        "    app()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"loaded = [name for name in sys.modules if name.startswith(tuple({HEAVY}))]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=work_folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout or list(work_folder.iterdir())
