"""Unfinished studies of an older version are finished, with the losses of an undisturbed run of that version."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import old_databases
import pytest
from postgres import PostgresServer
from study_files import opened

from search.storage.queries import trial_histories, trial_summaries
from search.storage.schema import SCHEMA_VERSION

# Built-in names in study files of the older version, and their names now.
RENAMED = {
    "objectives.language_model:start": "language_model",
    "models.bigram_v2:BigramV2": "search.models.bigram_v2:BigramV2",
    "models.bigram:Bigram": "search.models.bigram:Bigram",
}
STUDIES = ("language", "named", "tiny", "line", "tuned")
TOLERANCE = 1e-6  # where another processor or version of torch rounds differently


@pytest.mark.parametrize(
    ("storage_url", "study"),
    [
        *(("sqlite", study) for study in STUDIES),
        ("postgresql", "language"),
        *(pytest.param("postgresql", study, marks=pytest.mark.soak) for study in STUDIES if study != "language"),
    ],
    indirect=["storage_url"],
)
def test_a_study_is_finished(study: str, storage_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    kind = storage_url.partition(":")[0]
    old_databases.copy_studies(tmp_path)
    old_databases.restore_out(kind, tmp_path)
    if kind == "sqlite":
        storage_url = old_databases.restore_sqlite(tmp_path)
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        old_databases.restore_postgres(server, storage_url)
    file = tmp_path / f"{study}.toml"
    file.write_text(renamed(file.read_text()))

    options = ["--storage", storage_url, "--out", "search-out", "--workers", "1", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "search.run", "--study", f"{study}.toml", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert f"from schema 1 to {SCHEMA_VERSION}" in done.stderr
    check_losses(study, storage_url)
    logs = "\n".join(log.read_text() for log in (tmp_path / "search-out").rglob("*.log"))
    if study == "named":  # its cells have another text, which is part of a checkpoint's identity
        assert "the trial restarts from the beginning" in logs
    else:
        assert f"of {study} resumes after step" in logs
        assert not list(tmp_path.rglob("*.rejected"))


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
