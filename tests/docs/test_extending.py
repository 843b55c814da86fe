"""docs/extending.md: each example runs as it is printed, and is one file and one line in the package."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from fork_server import run_forked
from study_files import all_rows, sqlite

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Example:
    """One section of the page.

    Attributes:
        files: By name.
        command: As printed, without "python".
        place: The file in the package, and the name of its registry; "" where there is none.
        line: Of the registry.
    """

    files: dict[str, str]
    command: list[str]
    place: str
    registry: str
    line: str


def examples() -> dict[str, Example]:
    found = {}
    for section in PAGE.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        files = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", text, re.M | re.S))
        command = re.findall(r"^```console\n\$ python (.*?)\n```$", text, re.M | re.S)
        placed = re.search(
            r"^In (?:lm-search: `([\w./]+)`, and in )?`(\w+)`:\n\n```python\n(.*?)^```$", text, re.M | re.S
        )
        assert placed is not None, title
        found[title] = Example(files, shlex.split(command[0]) if command else [], placed[1] or "", placed[2], placed[3])
    return found


EXAMPLES = examples()
REGISTRIES = dict(re.findall(r"`([A-Z]+)` in `([\w./]+)`", PAGE.split("\n## ")[0]))
REGISTERED_ONLY = "A kind of database"
RUN = [title for title, example in EXAMPLES.items() if example.command and title != REGISTERED_ONLY]


def run(
    arguments: list[str], folder: Path, has_torch: bool = False, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command line of Python: in a new interpreter for a copy of the package, or if it is no program of ours."""
    environment = {**os.environ, "SEARCH_WORKERS": "1", "SEARCH_DEVICES": "cpu", **variables}
    if arguments[0] == "-m" and not (folder / "search").exists():
        return run_forked(arguments[1].removeprefix("search."), arguments[2:], folder, environment, has_torch)
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=100
    )


def test_the_page_has_an_example_of_each_extension_point() -> None:
    assert list(EXAMPLES) == [
        "An objective", "A model", "A sampler", "A pruner", "A launcher", "A tracker", REGISTERED_ONLY, "An option",
    ]  # fmt: skip
    assert {example.registry for example in EXAMPLES.values()} - {"TrainingOptions"} == REGISTRIES.keys()


@pytest.mark.parametrize("title", RUN)
def test_it_runs_as_printed(title: str, tmp_path: Path) -> None:
    example = EXAMPLES[title]
    for name, content in example.files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    ran = run(example.command, tmp_path, has_torch=title == "A model")
    assert ran.returncode == 0, ran.stderr
    rows = all_rows(sqlite(tmp_path))
    assert {row["outcome"] for row in rows} == ({"complete", "pruned"} if title == "A pruner" else {"complete"})
    if title == "An objective":
        kept = [path for path in (tmp_path / "search-out" / "artifacts").rglob("*") if path.is_file()]
        assert len(kept) == 6 * len(["record.json", "curve.csv", "x.txt"])
        wrong = run([*example.command, "--name", "other", "--set", "rate=2"], tmp_path)
        assert (wrong.returncode, wrong.stderr) == (2, "error: rate = 2: give a number between 0 and 1\n")
    if title == "A sampler":
        assert {row["cell"]["rate"] for row in rows} <= {0.01, 0.5}
    if title == "A pruner":
        report = run(["-m", "search.report", "--study", "study"], tmp_path).stdout
        assert "- pruner: stalled:StalledPruner (patience 2)" in report
    if title == "A tracker":
        assert (tmp_path / "best.txt").read_text().split()[1:] == ["{'a':", "1}"]
        assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 3 * (5 + 1)
        # A second run has nothing to train, and writes nothing twice.
        assert run(example.command, tmp_path).returncode == 0
        assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 3 * (5 + 1)


LOAD = """
from pathlib import Path
from search.study.user_modules import resolve_objective
from search.models.registry import model_class
from search.strategies.samplers import make_sampler
from search.strategies.pruners import read_pruner
from search.launchers.registry import make_launcher
from search.launchers.protocol import Places
from search.study.search_space import SamplerSettings
from search.trackers.registry import make_trackers

resolve_objective("valley"), model_class("two_layers"), make_sampler(SamplerSettings(name="extremes"), 0)
read_pruner("stalled"), make_launcher("plain", Places()), make_trackers(["best:x"])
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with every example in it: a file and a line each."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "search", folder / "search")  # with the bytecode of all files that do not change
    for title, example in EXAMPLES.items():
        assert example.line.count("\n") == 1, title
        if example.place:
            [first, *_] = example.files.values()
            (folder / example.place).write_text(first, encoding="utf-8")
            registry, start = folder / REGISTRIES[example.registry], rf"^{example.registry}: dict\[str, str\] = {{\n"
        else:
            registry, start = folder / "search" / "options.py", rf"^class {example.registry}\(.*\n.*\n\n"
        text = registry.read_text(encoding="utf-8")
        [found] = re.finditer(start, text, re.M)
        registry.write_text(text[: found.end()] + example.line + text[found.end() :], encoding="utf-8")
    return folder


def test_a_file_and_a_line_make_a_name(extended: Path) -> None:
    ran = run(["-c", LOAD], extended)
    assert ran.returncode == 0, ran.stderr


def test_a_kind_of_database_runs_as_printed(extended: Path) -> None:
    example = EXAMPLES[REGISTERED_ONLY]
    for name, content in example.files.items():
        (extended / name).write_text(content, encoding="utf-8")
    ran = run(example.command, extended, PYTHONPATH=str(extended))  # for the worker too
    assert ran.returncode == 0, ran.stderr
    # It is SQLite's file, which the other name opens too.
    assert [row["outcome"] for row in all_rows(sqlite(extended))] == ["complete"] * 3


def test_a_field_makes_an_option_everywhere(extended: Path) -> None:
    for program in ("run", "worker"):
        assert "--nice" in run(["-m", f"search.{program}", "--help"], extended).stdout
    code = (
        "import inspect; from search import run_study; from search.options import WorkerOptions, RunOptions\n"
        "assert 'nice' in inspect.signature(run_study).parameters\n"
        "options = RunOptions.from_keywords({'study': 'bigram', 'nice': 3})\n"
        "assert ['--nice', '3'] == [each for each in options.shared_with(WorkerOptions).as_arguments()"
        " if each in ('--nice', '3')]\n"
    )
    ran = run(["-c", code], extended)
    assert ran.returncode == 0, ran.stderr
