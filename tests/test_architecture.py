"""The rooms keep their arrows, and the README tells the truth about files and flags."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("search", "objectives", "models", "storage")
ALLOWED = {"search": {"objectives", "models", "storage"}, "objectives": {"models"}, "models": set(), "storage": set()}
README = (ROOT / "README.md").read_text(encoding="utf-8")


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level names of all imports anywhere in a file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_between_rooms(room: str) -> None:
    for path in modules(room):
        strangers = (imported(path) & set(ROOMS)) - ALLOWED[room] - {room}
        assert not strangers, f"{path.relative_to(ROOT)} imports {strangers}"


@pytest.mark.parametrize(("room", "stranger"), [("storage", "torch"), ("models", "optuna"), ("objectives", "optuna")])
def test_library_stays_out_of_room(room: str, stranger: str) -> None:
    for path in modules(room):
        assert stranger not in imported(path), path.relative_to(ROOT)


@pytest.mark.parametrize("program", ["run", "worker", "report", "status", "dashboard", "replay"])
def test_help_imports_neither_torch_nor_optuna(program: str) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['{program}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('search.{program}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "heavy = {'torch', 'optuna', 'sqlalchemy', 'pandas', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def readme_tree() -> dict[str, set[str]]:
    """Folder → the files that the README's tree names in it."""
    block = README.split("## Files")[1].split("```")[1]
    tree: dict[str, set[str]] = {}
    folder = ""
    for line in block.strip().splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name.rstrip("/")
            tree[folder] = set()
        else:
            tree[folder].add(name.rstrip("/"))
    return tree


@pytest.mark.parametrize("room", [*ROOMS, "search/reporting", "search/strategies"])
def test_readme_tree_names_every_file(room: str) -> None:
    there = {path.name for kind in ("*.py", "*.jinja") for path in (ROOT / room).glob(kind)} - {"__init__.py"}
    there |= {path.name for path in (ROOT / room).iterdir() if path.is_dir() and any(path.glob("*.toml"))}
    assert readme_tree()[room] == there


def test_readme_tree_names_every_folder() -> None:
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    folders = {line.split("/")[0] for line in tracked.splitlines() if "/" in line and not line.startswith(".")}
    assert {folder for folder in readme_tree() if "/" not in folder} == folders


@pytest.mark.parametrize("program", ["run", "worker", "report", "status", "dashboard", "replay"])
def test_readme_documents_every_flag(program: str) -> None:
    helped = subprocess.run(
        [sys.executable, "-m", f"search.{program}", "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", helped.stdout)) - {"--help"}
    assert flags, helped.stdout
    missing = {flag for flag in flags if not re.search(rf"`{flag}[ `]", README)}
    assert not missing


def test_functions_stay_short() -> None:
    """Twice the length that reads well is two functions."""
    for room in ROOMS:
        for path in modules(room):
            source = path.read_text(encoding="utf-8")
            assert len(source.splitlines()) <= 300, path
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef):
                    body = node.body[1:] if ast.get_docstring(node) else node.body
                    length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                    assert length <= 60, f"{path}:{node.lineno} {node.name}"
