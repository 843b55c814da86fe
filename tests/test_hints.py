"""Messages name the programs in the form in which the user has called one."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from search.errors import UsageError
from search.hints import PACKAGE, SCRIPT, VARIABLE, command_of
from search.storage.connect import open_database
from search.storage.errors import NoStudyYet
from search.study.definition import load_definition
from search.study.lookup import open_studies
from search.study.study_file import run_argument
from search.study.user_modules import resolve_objective

SOURCES = Path(__file__).parent.parent / "search"
PROGRAM = re.compile(r"python -m search|lm-search (run|worker|report|export|import|delete|status|dashboard|replay)\b")


@pytest.mark.parametrize(
    ("form", "command"),
    [(None, "python -m search.run"), (SCRIPT, "lm-search run"), (PACKAGE, "python -m search run"), ("rm", None)],
)
def test_form(form: str | None, command: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if form is not None:
        monkeypatch.setenv(VARIABLE, form)
    command = command or "python -m search.run"
    assert command_of("run") == command
    storage = f"sqlite:///{tmp_path / 'search.db'}"
    plan = re.escape(f"{command} --study FILE.toml --storage {storage}")
    with pytest.raises(NoStudyYet, match=f"no such file; give --storage, or plan a study first with: {plan}$"):
        open_studies("small", storage, 0, baselines=True)
    (tmp_path / "search.db").touch()
    with pytest.raises(NoStudyYet, match=f"holds no study yet; plan one first with: {plan}$"):
        open_studies("small", storage, 0, baselines=True)
    open_database(storage, create=True).engine.dispose()
    with pytest.raises(UsageError, match=f"no study 'small' in .*; start one with: {plan}$"):
        open_studies("small", storage, 0, baselines=True)


def test_a_study_is_named_by_what_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.toml", "theirs.yaml", "bigram-tuned.toml"):
        Path(name).touch()
    shown = {"mine": "mine.toml", "theirs": "theirs.yaml", "bigram": "bigram", "bigram-tuned": "bigram-tuned.toml",
             "a function": "FILE.toml", "out/x/study.toml": "out/x/study.toml"}  # fmt: skip
    assert {study: run_argument(study) for study in shown} == shown


def test_the_script_and_its_children(tmp_path: Path) -> None:
    """`lm-search` says so to the processes that it starts."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCES.parent)}
    environment.pop(VARIABLE, None)
    call = "import sys; sys.argv = ['lm-search', 'report', '--study', 'small']; from search.console import main; main()"
    done = subprocess.run([sys.executable, "-c", call], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "plan a study first with: lm-search run --study FILE.toml --storage sqlite:///search.db" in done.stderr


def strings(path: Path) -> list[str]:
    """The texts in a file that a user can see: strings that are no docstring."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    constants = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in docstrings]
    return [node.value for node in constants if isinstance(node.value, str)]


def test_every_message_uses_the_form_of_the_user() -> None:
    fixed = [
        (path.name, text)
        for path in sorted(SOURCES.rglob("*.py"))
        if path.name != "hints.py"
        for text in strings(path)
        if PROGRAM.search(text)
    ]
    assert fixed == []
    for template in SOURCES.rglob("*.jinja"):
        assert not PROGRAM.search(template.read_text(encoding="utf-8"))


def test_a_misspelt_name_of_a_file_or_function_gets_a_suggestion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text('objective = "my_scores:scor"\n[grid]\nx = [1]\n')
    (tmp_path / "my_scores.py").write_text("def score(params, seed):\n    yield 1, 1.0, 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for typed, meant in (("mine.tml", "mine.toml"), ("mime.toml", "mine.toml"), ("bigam", "bigram")):
        with pytest.raises(UsageError, match=rf"\(did you mean '{meant}'\?\)"):
            load_definition(typed)
    with pytest.raises(UsageError, match=r"has no function 'scor' \(did you mean 'score'\?\)"):
        resolve_objective("my_scores:scor")
    storage = f"sqlite:///{tmp_path / 'search.db'}"
    with pytest.raises(NoStudyYet, match=r"with: python -m search\.run --study mine\.toml --storage"):
        open_studies("mine", storage, 0, baselines=True)
