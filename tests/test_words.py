"""The project's vocabulary: names are the field's standard terms, and prose avoids a list of words."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = ("search", "tests", "benchmarks")

# Names that no module, class, function or field bears, and the standard ones.
REPLACED = {
    "sayings": "claims",
    "keepsakes": "part of the run",
    "explaining": "validation_messages",
    "laps": "phase_timer",
    "Laps": "PhaseTimer",
    "axes": "search_space",
    "floor": "bigram_baseline",
    "own_code": "user_modules",
    "probing": "memory_need",
    "chosen_corpus": "study/corpus",
    "graphs": "cuda_graphs",
    "groups": "stacked_runs",
    "opening": "what is opened: a study, a worker",
    "process": "torch_setup",
    "training": "worker_loop",
    "samples": "generation",
    "members": "leased_trial",
    "Member": "LeasedTrial",
    "Desk": "WorkerContext",
    "randomness": "rng",
    "fusing": "group_size",
    "contract": "protocol",
    "gate": "auth_middleware",
    "WaitingRoom": "LazyApp",
    "ends": "state_transitions",
    "record": "provenance",
    "Keeper": "ArtifactWriter",
    "Kept": "StoredArtifacts",
    "showing": "dashboard_attrs",
    "rerun": "replay",
    "Past": "RecordedTrial",
    "one_statement": "postgres_queue",
    "findings": "report_data",
    "artifacts": "checkpoint_store",
    "studytext": "toml_export",
    "histories": "queries",
    "summaries": "queries",
    "optuna_reading": "queries",
    "figures": "dashboard_plots",
    "publishing": "dashboard_publisher",
    "standin": "fake_objective",
    "smallstudy": "sample_study",
    "endedstudies": "finished_studies",
    "composestack": "compose_stack",
    "_bury": "_fail_exhausted",
    "hopeless": "exhausted",
    "give_up": "release_or_fail",
    "hand_back": "release",
    "look_in": "extend_sys_path",
    "import_own": "import_user_module",
    "meant": "did_you_mean",
    "known": "nan_to_none",
    "single": "execute_autocommit",
    "whole": "complete_for_all_seeds",
    "create_or_upgrade": "migrations",
    "together": "stack_runs",
    "leave": "remove",
}
# Name → why it may stay, as a kind of definition ("field", "function", …).
ALLOWED = {
    ("field", "axes"): "the table [axes] of a study file",
    ("field", "training"): "the table [training] of a study file",
    ("field", "artifacts"): "the option --artifacts: files of finished trials, not checkpoints",
}

AVOIDED = re.compile(r"\b(sayings|keepsakes|laps|mend(?:s|ed|ing)?|bury|hopeless|rooms|somebody)\b", re.IGNORECASE)
PROSE_FILES = (".md", ".jinja", ".toml", ".yml", ".yaml", ".sh")
# Files that have to name the words.
EXEMPT = {"tests/test_words.py"}


@cache
def tracked() -> list[Path]:
    """The repository's files, those not yet committed included."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, capture_output=True, text=True, cwd=ROOT, check=True).stdout.splitlines()
    paths = {ROOT / name for name in names}
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


def python_files() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in CODE]


def definitions(tree: ast.Module) -> Iterator[tuple[str, str, int]]:
    """Kind, name and line of each class, function and field; a field is what a class body or `self` is given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield "class", node.name, node.lineno
            for each in node.body:
                yield from (("field", name, each.lineno) for name in assigned(each))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield "function", node.name, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield "field", node.attr, node.lineno


def assigned(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    return []


def replaced_names(path: str, source: str) -> list[str]:
    """Every definition in a file that bears a replaced name, as a line for the reader."""
    file = Path(path)
    module = file.parent.name if file.stem == "__init__" else file.stem
    found = [("module", module, 1), *definitions(ast.parse(source))]
    return [
        f"{path}:{line}: {kind} {name}; use {REPLACED[name]}"
        for kind, name, line in found
        if name in REPLACED and (kind, name) not in ALLOWED
    ]


def test_names_are_standard() -> None:
    found = [
        each
        for path in python_files()
        for each in replaced_names(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_prose_avoids_words() -> None:
    found = []
    for path in tracked():
        name = str(path.relative_to(ROOT))
        if name in EXEMPT or path.suffix not in (".py", *PROSE_FILES):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found += [f"{name}:{number}: {match[0]}: {line.strip()}" for match in AVOIDED.finditer(line)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("search/floor.py", "", "search/floor.py:1: module floor; use bigram_baseline"),
        ("search/floor/__init__.py", "", "search/floor/__init__.py:1: module floor; use bigram_baseline"),
        ("search/a.py", "class Desk: ...", "search/a.py:1: class Desk; use WorkerContext"),
        ("search/a.py", "def look_in(): ...", "search/a.py:1: function look_in; use extend_sys_path"),
        ("search/a.py", "class A:\n    gate: int", "search/a.py:2: field gate; use auth_middleware"),
        ("search/a.py", "class A(Enum):\n    ends = 1", "search/a.py:2: field ends; use state_transitions"),
        ("search/a.py", "class A:\n    def f(self):\n        self.whole = 1", "search/a.py:3: field whole; use"),
        ("search/a.py", "class A:\n    training: int = 1", ""),
        ("search/a.py", "known = 1", ""),
    ],
)
def test_replaced_names_are_noticed(path: str, source: str, found: str) -> None:
    lines = replaced_names(path, source)
    assert len(lines) == bool(found)
    assert "".join(lines).startswith(found)
