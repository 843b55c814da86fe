"""Packages import in one direction only, and ARCHITECTURE.md names every file and the arrows."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
# Modules of search/ that are programs; they stand above all packages.
PROGRAMS = {
    *(
        "run",
        "worker",
        "report",
        "status",
        "dashboard",
        "replay",
        "delete",
        "export",
        "import",
        "database",
        "__main__",
        "console",
    ),
}
# From the top; each imports those below it only.
LAYERS = (
    "programs",
    "command_line",
    "service",
    "run_parts",
    "run_worker",
    "python_study",
    "planning",
    "reading_options",
    "housekeeping_options",
    "options",
    "shared_options",
    "option_fields",
    "web",
    "reporting",
    "trackers",
    "launchers",
    "workers",
    "strategies",
    "statistics",
    "study",
    "errors",
    "streams",
    "imports",
    "hints",
    "objectives",
    "models",
    "storage",
)
# Packages that import nothing of ours but what is named.
ISOLATED: dict[str, set[str]] = {"objectives": {"models"}, "models": set(), "storage": set()}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            # `from search import options` imports a module.
            names |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "search" else {node.module}
            )
    return names


def layer(module: str) -> str | None:
    """The layer of a module such as "search.web.app"; None for `search` itself and for others' modules."""
    parts = module.split(".")
    if len(parts) < 2 or parts[0] != "search":
        return None
    return "programs" if parts[1] in PROGRAMS else parts[1]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", modules("search"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    own = layer(module_name(path))
    if own is None:
        return  # search/__init__.py offers run_study
    if own == "studies":
        assert not imported(path) - {"__future__"}
        return
    assert own in LAYERS, f"{own} has no place among the layers"
    for name in imported(path):
        other = layer(name)
        if other is None or other == own or name == "search.run_study":
            continue
        assert other in LAYERS, name
        assert LAYERS.index(own) < LAYERS.index(other), f"{own} imports {name}, which lies above it"
        assert own not in ISOLATED or other in ISOLATED[own], f"{own} imports {name}"


@pytest.mark.parametrize(
    ("package", "library"),
    [("storage", "torch"), ("models", "optuna"), ("models", "sqlalchemy"), ("objectives", "optuna")],
)
def test_library_stays_out_of_package(package: str, library: str) -> None:
    for path in modules(f"search/{package}"):
        assert library not in {name.split(".")[0] for name in imported(path)}, path.relative_to(ROOT)


def test_nothing_is_imported_through_the_links() -> None:
    for folder in ("search", "tests", "benchmarks"):
        for path in modules(folder):
            links = {name.split(".")[0] for name in imported(path)} & {"models", "objectives", "storage"}
            assert not links, f"{path.relative_to(ROOT)} imports {links}"


def test_architecture_shows_the_layers() -> None:
    block = ARCHITECTURE.split("## Imports")[1].split("```")[1]
    shown = re.findall(r"^(\w+)", block, re.MULTILINE)
    assert shown == list(LAYERS)


def file_tree() -> set[str]:
    """Every path that the tree in ARCHITECTURE.md names; folders end in "/"."""
    block = ARCHITECTURE.split("## Files")[1].split("```")[1]
    paths: set[str] = set()
    folders: list[str] = []
    for line in block.strip("\n").splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders = [*folders[:depth], name]
        assert len(line.split()) > 1 or name.endswith("/"), f"{name} has no description"
        paths.add("".join(folders))
    return paths


def tracked() -> list[str]:
    """The repository's files, those not yet committed included."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = set(subprocess.run(listed, capture_output=True, text=True, cwd=ROOT, check=True).stdout.splitlines())
    return sorted(name for name in names if (ROOT / name).exists())


def test_tree_names_every_file_of_the_package() -> None:
    there = {
        name
        for name in tracked()
        if name.startswith("search/")
        and name.endswith((".py", ".jinja", ".mako", ".sql"))
        and not name.endswith("__init__.py")
    }
    shown = {path for path in file_tree() if path.startswith("search/") and not path.endswith("/")}
    # Migrations come one by one, and their folder's line speaks for them.
    there = {name for name in there if "/versions/" not in name}
    assert not there - shown, "add a line to the tree in ARCHITECTURE.md"
    assert not shown - there, "these are gone; remove their lines from ARCHITECTURE.md"


def test_tree_names_every_folder() -> None:
    folders = {f"{name.split('/')[0]}/" for name in tracked() if "/" in name and not name.startswith(".")}
    assert {path for path in file_tree() if path.count("/") == 1 and path.endswith("/")} == folders


def test_functions_stay_short() -> None:
    """A function of twice the length that reads well is two functions."""
    for path in modules("search"):
        source = path.read_text(encoding="utf-8")
        assert len(source.splitlines()) <= 300, path
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                assert length <= 60, f"{path}:{node.lineno} {node.name}"
