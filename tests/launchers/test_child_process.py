"""Children take their modules from the installation, whatever lies in the working directory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from search.launchers.child_process import child_command, child_environment

# Of packages that a worker imports, and of modules of Python's own.
SHADOWS = ("typer", "sqlalchemy", "optuna", "torch", "random", "json", "search")


@pytest.mark.parametrize("path", ["", os.pathsep, f"{os.pathsep}/nowhere", f"/nowhere{os.pathsep}{os.pathsep}/none"])
def test_files_of_the_working_directory_do_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the file of the working directory ran')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", path)
    command = [*child_command("search.worker"), "--help"]
    done = subprocess.run(command, env=child_environment({}), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--study" in done.stdout


def test_folders_of_the_path_are_kept_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/b", "", "/a", ""]))
    folders = child_environment({"SEARCH_SEEDS": "3"})["PYTHONPATH"].split(os.pathsep)
    assert folders[:2] == ["/b", "/a"]
    assert "" not in folders
    monkeypatch.delenv("PYTHONPATH")
    environment = child_environment({"SEARCH_SEEDS": "3"})
    assert environment["SEARCH_SEEDS"] == "3"
    assert all(environment["PYTHONPATH"].split(os.pathsep)) or not environment["PYTHONPATH"]
