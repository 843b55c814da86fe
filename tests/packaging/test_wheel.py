"""What is installed: one import package, that works in folders full of other people's names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from built_wheel import ROOT, build_wheel, unpack_wheel
from study_files import write_corpus

STUDY = """
corpus = "text.txt"

[grid]
model = "train:Tiny"
block_size = 4
width = [4, 8]

[training]
batch_size = 4
max_iters = 4
eval_interval = 2

[pruner]
name = "none"
"""
TRAIN = """
from models.gpt import Tiny
from objectives import NAME
from storage.files import WIDTH

assert NAME and WIDTH
"""
GPT = """
import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(vocab_size, width), nn.Linear(width, vocab_size)

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        return self.head(self.embedding(idx))
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel, which no test changes."""
    return unpack_wheel(wheel, tmp_path_factory.mktemp("site"))


@pytest.fixture(params=["wheel", "editable"])
def python_path(request: pytest.FixtureRequest) -> str:
    """What PYTHONPATH makes `search` come from: an unpacked wheel, or nothing but the editable install."""
    if request.param == "editable":
        return ""
    return str(request.getfixturevalue("site"))


def research_folder(folder: Path, *, with_init: bool) -> Path:
    """A folder as people have it: packages of its own under the everyday names, and a study that uses them."""
    files = {
        "models/gpt.py": GPT,
        "storage/files.py": "WIDTH = 8\n",
        "objectives/names.py": "NAME = 'loss'\n",
        "train.py": TRAIN if with_init else TRAIN.replace("objectives import", "objectives.names import"),
        "own.toml": STUDY,
    }
    if with_init:
        files |= {"models/__init__.py": "", "storage/__init__.py": "", "objectives/__init__.py": "NAME = 'loss'\n"}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    write_corpus(folder)
    return folder


def call(folder: Path, python_path: str, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": python_path}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=100
    )


def test_the_wheel_has_one_import_package(site: Path) -> None:
    names = {path.name for path in site.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"search"}
    packed = {str(path.relative_to(site)) for path in (site / "search").rglob("*.*") if path.suffix != ".pyc"}
    tracked = subprocess.run(["git", "ls-files", "search"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert packed == {name for name in tracked.splitlines() if (ROOT / name).is_file()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("python_path", "with_init"),
    [
        pytest.param("wheel", True, id="wheel-packages"),
        pytest.param("wheel", False, id="wheel-plain-folders", marks=pytest.mark.soak),
        pytest.param("editable", True, id="editable-packages", marks=pytest.mark.soak),
        pytest.param("editable", False, id="editable-plain-folders", marks=pytest.mark.soak),
    ],
    indirect=["python_path"],
)
def test_a_folder_with_packages_of_the_same_names(tmp_path: Path, python_path: str, with_init: bool) -> None:
    folder = research_folder(tmp_path / "research", with_init=with_init)
    study = ["--study", "own.toml"]

    def ours(program: str, *arguments: str) -> str:
        done = call(folder, python_path, "-m", f"search.{program}", *arguments)
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout

    ours("run", *study, "--plan-only")
    ours("worker", *study)
    rows = json.loads(ours("run", *study, "--workers", "1", "--json", "--quiet"))["rows"]
    assert [row["state"] for row in rows] == ["complete", "complete"]
    assert "train:Tiny" in ours("report", *study)
    assert "2 complete" in ours("status", *study)
    assert ": match (exact)" in ours("replay", *study, "--trial", "0", "--quiet")
    assert "Show the studies" in ours("dashboard", "--help")


def test_files_named_as_modules_of_python_or_of_others_do_not_run(tmp_path: Path) -> None:
    for name in ("numbers", "inspect", "typing", "random", "decimal", "signal", "dataclasses", "optuna", "pydantic"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('this is {name}.py')\n")
    done = call(tmp_path, str(ROOT), "-m", "search.status", "--study", "any", "--storage", "sqlite:///none.db")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "there is no such file" in done.stderr


def test_nothing_imports_through_the_links(tmp_path: Path, site: Path) -> None:
    folder = research_folder(tmp_path / "research", with_init=True)
    script = (
        "import sys\n"
        "from search import run_study\n"
        "result = run_study('bigram', settings={'max_iters': 2, 'eval_interval': 1, 'n_embd': [64], 'block_size': [8]},"
        " corpus='text.txt', quiet=True, workers=1)\n"
        "assert result.counts['complete'] == 5, result.counts\n"
        "import search.reporting.page, search.web.app, search.workers.setup\n"
        "import search.objectives.language_model.objective\n"
        "print([name for name in ('models', 'objectives', 'storage') if name in sys.modules])\n"
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "text.txt").write_bytes((folder / "text.txt").read_bytes())
    done = call(tmp_path / "empty", str(site), "-c", script)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize("python_path", ["wheel", pytest.param("editable", marks=pytest.mark.soak)], indirect=True)
def test_files_in_the_places_of_dependencies(tmp_path: Path, python_path: str) -> None:
    """`python -m search.run` would find the folder's own `search`; the installed script does not."""
    folder = research_folder(tmp_path / "research", with_init=True)
    for name in ("search/__init__", "typer", "alembic", "optuna", "json"):
        write_trap(folder, name)
    run_installed_script(folder, python_path, tmp_path)


@pytest.mark.parametrize("python_path", [pytest.param("wheel", marks=pytest.mark.soak), "editable"], indirect=True)
def test_such_files_and_python_m(tmp_path: Path, python_path: str) -> None:
    """`python -m` looks in the working directory first; what a program loads after its start is not affected."""
    folder = research_folder(tmp_path / "research", with_init=True)
    for name in ("optuna", "alembic"):
        write_trap(folder, name)
    arguments = ["--study", "own.toml", "--workers", "1", "--json", "--quiet"]
    done = call(folder, python_path, "-m", "search.run", *arguments)
    assert done.returncode == 0, done.stderr


def write_trap(folder: Path, name: str) -> None:
    """Write a module that must not be imported."""
    file = folder / f"{name}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"raise AssertionError('{name} of the working directory was imported')\n")


def run_installed_script(folder: Path, python_path: str, scripts: Path) -> None:
    """Train the study with `lm-search`, whose own folder heads the path; its workers are children."""
    script = scripts / "lm-search"
    script.write_text("import sys\nfrom search.console import main\nsys.exit(main())\n")
    done = call(folder, python_path, str(script), "run", "--study", "own.toml", "--workers", "1", "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    assert [row["state"] for row in json.loads(done.stdout)["rows"]] == ["complete", "complete"]
