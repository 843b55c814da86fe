"""A working folder with a study file and a corpus, and one finished study of the fake objective per session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fork_server import forked_children
from study_files import program, sqlite, write_corpus, write_study


@pytest.fixture
def study_file(tmp_path: Path) -> str:
    """The study of the fake objective: 8 cells and a baseline."""
    return write_study(tmp_path)


@pytest.fixture
def corpus_file(tmp_path: Path) -> str:
    """A text of 4,000 characters."""
    return write_corpus(tmp_path)


@pytest.fixture
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, empty."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def forked_workers() -> Iterator[None]:
    """The workers that this process starts are forks of the server: `run_study` needs a fifth of the time."""
    with forked_children():
        yield


@pytest.fixture
def forked_torch_workers() -> Iterator[None]:
    """The same for workers that train with torch: they need not import it."""
    with forked_children(has_torch=True):
        yield


@dataclass(frozen=True)
class FinishedStudy:
    """A finished run of the command line: its files and its output."""

    folder: Path
    file: str
    corpus: str
    storage: str
    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedStudy:
    """The study of the fake objective with 2 seeds, trained by 2 workers from the command line."""
    folder = tmp_path_factory.mktemp("finished")
    file, corpus, storage = write_study(folder), write_corpus(folder), sqlite(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        options = ["--study", file, "--corpus", corpus, "--storage", storage, "--seeds", "2", "--workers", "2"]
        done = program("run", *options, cwd=folder)
    return FinishedStudy(folder, file, corpus, storage, done.returncode, done.stdout, done.stderr)
