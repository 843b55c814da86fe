"""Unfinished studies of an older version are finished, with the losses of an undisturbed run of that version."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import old_databases
import pytest
from postgres import PostgresServer
from study_files import opened, program

from search.storage.queries import trial_summaries
from search.storage.schema import SCHEMA_VERSION
from search.storage.trial_histories import trial_histories

# Built-in names in study files of the older version, and their names now.
RENAMED = {
    "objectives.language_model:start": "language_model",
    "models.bigram_v2:BigramV2": "search.models.bigram_v2:BigramV2",
    "models.bigram:Bigram": "search.models.bigram:Bigram",
}
STUDIES = ("language", "named", "tiny", "line", "tuned")
TOLERANCE = 1e-6  # where another processor or version of torch rounds differently


# What `search.run` and its worker do, for several studies in one process: torch is imported once.
FINISH = """
import logging, sys
from pathlib import Path
from search.options import PlanningOptions
from search.planning import open_planned
from search.workers.setup import open_worker

logging.basicConfig(level=logging.INFO, format="%(message)s")
for study in sys.argv[2:]:
    options = PlanningOptions(study=f"{study}.toml", storage=sys.argv[1], out=Path("search-out"))
    open_planned(options)[0].engine.dispose()
    worker = open_worker(options.study, options.storage, "cpu", out=options.out)
    with worker.queue.database.closing():
        worker.run()
"""


@dataclass(frozen=True)
class Finished:
    """A database of the older version after all its studies were finished, and what was logged."""

    storage: str
    folder: Path
    logs: str


@pytest.fixture(scope="module")
def finished_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A study finished by `search.run`, which upgrades the database, then the others."""
    folder = tmp_path_factory.mktemp("old")
    old_databases.copy_studies(folder)
    old_databases.restore_out("sqlite", folder)
    storage = old_databases.restore_sqlite(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support"))
        logs = run_to_the_end(STUDIES[0], storage, folder)
        for study in STUDIES[1:]:
            rename_in(folder / f"{study}.toml")
        command = [sys.executable, "-c", FINISH, storage, *STUDIES[1:]]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Finished(storage, folder, logs + done.stderr)


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_is_finished(finished_sqlite: Finished, study: str) -> None:
    check_losses(study, finished_sqlite.storage)
    if study == "named":  # its cells have another text, which is part of a checkpoint's identity
        assert "the trial restarts from the beginning" in finished_sqlite.logs
    else:
        assert f"of {study} resumes after step" in finished_sqlite.logs
    rejected = {
        path.relative_to(finished_sqlite.folder).parts[1] for path in finished_sqlite.folder.rglob("*.rejected")
    }
    assert study == "named" or study not in rejected


@pytest.mark.parametrize(
    ("storage_url", "study"),
    [
        ("postgresql", "language"),
        *(pytest.param("sqlite", study, marks=pytest.mark.soak) for study in STUDIES),
        *(pytest.param("postgresql", study, marks=pytest.mark.soak) for study in STUDIES if study != "language"),
    ],
    indirect=["storage_url"],
)
def test_a_study_is_finished_by_run(storage_url: str, study: str, tmp_path: Path, postgres: PostgresServer) -> None:
    kind = storage_url.partition(":")[0]
    old_databases.copy_studies(tmp_path)
    old_databases.restore_out(kind, tmp_path)
    if kind == "sqlite":
        storage_url = old_databases.restore_sqlite(tmp_path)
    else:
        old_databases.restore_postgres(postgres, storage_url)
    logs = run_to_the_end(study, storage_url, tmp_path)
    check_losses(study, storage_url)
    if study == "named":
        assert "the trial restarts from the beginning" in logs
    else:
        assert f"of {study} resumes after step" in logs
        assert not list(tmp_path.rglob("*.rejected"))


def run_to_the_end(study: str, storage: str, folder: Path) -> str:
    """Finish a study of the old version with `search.run`; return its workers' logs."""
    rename_in(folder / f"{study}.toml")
    options = ["--storage", storage, "--out", "search-out", "--workers", "1", "--quiet"]
    done = program("run", "--study", f"{study}.toml", *options, cwd=folder, has_torch=True)
    assert done.returncode == 0, done.stderr
    assert f"from schema 1 to {SCHEMA_VERSION}" in done.stderr
    return "\n".join(log.read_text() for log in (folder / "search-out").rglob("*.log"))


def rename_in(file: Path) -> None:
    file.write_text(renamed(file.read_text()))


def renamed(text: str) -> str:
    for old, new in RENAMED.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    return text


def check_losses(study: str, storage_url: str) -> None:
    environment, trials = old_databases.expected()
    names = [name for name in (study, f"{study}-baselines") if any(name == key[0] for key in trials)]
    wanted = {key: trial for key, trial in trials.items() if key[0] in names}
    with opened(storage_url).closing() as database:
        found = trial_summaries(database, names, attrs=("train_curve", "record"))
        curves = [each.curve for each in trial_histories(database, names)]
    assert {(trial.study, trial.number) for trial in found} == wanted.keys()
    # The function of "line" adds with sum(), which rounds less since Python 3.12.
    same_python = environment["python"].split(".")[:2] == [str(part) for part in sys.version_info[:2]]
    for trial, curve in zip(found, curves, strict=True):
        expected = wanted[trial.study, trial.number]
        exact = is_same_place(environment, trial.attrs.get("record") or {}) or (study == "line" and same_python)
        assert trial.state == "complete"
        cell = json.loads(renamed(json.dumps(expected["cell"])))
        assert {name: value for name, value in trial.cell.items() if name != "seed"} == {
            name: value for name, value in cell.items() if not name.startswith("@")
        }
        assert list(curve) == [step for step, _, _ in expected["curve"]]
        train = dict(trial.attrs["train_curve"])
        for step, train_loss, val_loss in expected["curve"]:
            assert (train[step], curve[step]) == (
                (train_loss, val_loss) if exact else pytest.approx((train_loss, val_loss), abs=TOLERANCE)
            )
        assert trial.value == (expected["value"] if exact else pytest.approx(expected["value"], abs=TOLERANCE))


def is_same_place(then: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether everything that the last digits depend on is unchanged."""
    return all(then[name] == now.get(name) for name in ("torch", "machine", "processor", "device", "threads"))
