"""Stored files of trials, and replays, with the real language model and with the fake objective."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from safetensors.torch import load
from study_files import REAL, all_rows, opened, program, sqlite, write_corpus, write_study

from search import run_study
from search.models.registry import build_model
from search.objectives.corpus import load_corpus
from search.storage.artifact_store import open_store
from search.storage.queries import TrialSummary
from search.study.definition import load_definition
from search.study.planner import Study as PlannedStudy
from search.study.planner import study_plans
from search.study.stored import planned_study
from search.workers.provenance import environment
from search.workers.replay import Comparison, RecordedTrial, differences, read_recorded_trial, replay_trial

pytestmark = pytest.mark.usefixtures("forked_torch_workers")

PRUNED = REAL.replace('name = "none"', 'name = "median"\nwarmup_steps = 5\nmin_trials = 1').replace(
    'pe_type = ["randn", "rope"]', 'pe_type = ["rope"]\nlearning_rate = [1e-2, 9e-3, 1e-7]'
)
BASELINES = '\n[[baselines]]\nmodel = "bigram"\nblock_size = 8\n'


@dataclass(frozen=True)
class Study:
    """A finished run."""

    folder: Path
    storage: str
    corpus: str

    def replay(self, *arguments: str, corpus: str | None = None) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of `search.replay`."""
        options = ["--storage", self.storage, "--corpus", corpus or self.corpus]
        done = program("replay", *options, *arguments, cwd=self.folder, has_torch=True)
        return done.returncode, done.stdout, done.stderr

    def recorded(self, number: int, name: str = "real") -> RecordedTrial:
        with opened(self.storage).closing() as database:
            return read_recorded_trial(database, name, number)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Six trials of a real model, and two of a baseline; the slowest learner of the second seed is pruned."""
    folder = tmp_path_factory.mktemp("replay")
    file, corpus, storage = write_study(folder, PRUNED + BASELINES, "real"), write_corpus(folder), sqlite(folder)
    with pytest.MonkeyPatch.context() as patch:
        root = Path(__file__).parent.parent.parent
        patch.setenv("PYTHONPATH", f"{root}:{root / 'tests'}")
        for seeds in "12":
            options = ["--study", file, "--corpus", corpus, "--storage", storage, "--seeds", seeds, "--workers", "1"]
            done = program("run", *options, "--quiet", cwd=folder, has_torch=True)
            assert done.returncode == 0, done.stderr
    return Study(folder, storage, corpus)


def stored_files(study: Study, name: str = "real") -> list[Mapping[str, bytes]]:
    """The stored files of each trial of a study, by file name, as Optuna finds them."""
    store = open_store(str(study.folder / "search-out" / "artifacts"))
    storage = optuna.storages.RDBStorage(study.storage)
    found: list[Mapping[str, bytes]] = []
    for trial in optuna.load_study(study_name=name, storage=storage).trials:
        files: dict[str, bytes] = {}
        for meta in optuna.artifacts.get_all_artifact_meta(trial, storage=storage):
            with store.open_reader(meta.artifact_id) as file:
                files[meta.filename] = file.read()
        found.append(files)
    storage.engine.dispose()
    return found


def test_every_trial_keeps_its_files(study: Study) -> None:
    rows = [row for row in all_rows(study.storage) if row["study"] == "real"]
    assert {row["outcome"] for row in rows} == {"complete", "pruned"}
    for row, files in zip(rows, stored_files(study), strict=True):
        wanted = {"record.json", "curve.csv", "model.safetensors"}
        assert set(files) == (wanted | {"sample.txt"} if row["outcome"] == "complete" else wanted)
        record = json.loads(files["record.json"])
        cell = dict(row["cell"])
        assert (record["seed"], record["outcome"]) == (cell.pop("seed"), row["outcome"])
        assert (record["cell"], record["val_loss"], record["step"]) == (cell, row["val_loss"], row["step"])
        assert record["training"]["eval_interval"] == 5
        assert set(record) >= {"corpus", "corpus_sha256", "objective", "study_uid", "environment", "n_params"}
        last = files["curve.csv"].decode().splitlines()[-1].split(",")
        assert (int(last[0]), float(last[2])) == (row["step"], row["val_loss"])
    parts = study.folder / "search-out" / "artifacts" / ".parts"
    assert list(parts.iterdir()) == []


def test_the_weights_are_those_of_the_model(study: Study) -> None:
    weights = load(stored_files(study, "real-baselines")[0]["model.safetensors"])
    [table] = weights.values()
    model = build_model("bigram", {"vocab_size": table.shape[0]}, seed=0)
    model.load_state_dict(weights)
    assert table.shape[0] == table.shape[1]


def test_three_random_trials_meet_their_losses(study: Study) -> None:
    rows = all_rows(study.storage)
    by_outcome = [next(row for row in rows if row["outcome"] == "pruned"), *random.Random().sample(rows, 2)]
    for row in by_outcome:
        recorded = study.recorded(row["number"], row["study"])
        shown: list[str] = []
        comparison = replay_trial(recorded, load_corpus(Path(study.corpus)), None, shown.append)
        assert (comparison.met, comparison.tolerance, comparison.differs) == (True, None, ())
        assert (comparison.again, comparison.step) == (row["val_loss"], row["step"])
        assert shown[-1].startswith(f"step {row['step']} of {row['step']}: val_loss ")


def test_command(study: Study) -> None:
    code, out, err = study.replay("--study", "real-baselines", "--trial", "0")
    assert (code, out.count("\n")) == (0, 1), err
    assert ": match (exact)" in out
    assert "step 20 of 20" in err
    code, out, err = study.replay("--study", "real", "--trial", "0", "--quiet", "--json")
    found = json.loads(out)
    assert (code, found["met"], found["exact"], found["recorded"]) == (0, True, True, found["again"])
    assert err == ""


def test_what_cannot_be_replayed(study: Study, tmp_path: Path) -> None:
    other = write_corpus(tmp_path, 3000)
    cases = {
        ("--trial", "77"): "--trial 77: real has the trials 0 to 5",
        ("--trial", "0", "--study", "none"): "no study 'none'",
    }
    for arguments, message in cases.items():
        code, out, err = study.replay("--study", "real", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err
    code, out, err = study.replay("--study", "real", "--trial", "0", corpus=other)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "the corpus differs: real trains on text.txt (SHA-256 " in err


def changed(recorded: RecordedTrial, val_loss: float, **record: Any) -> RecordedTrial:
    """Return the trial with another loss and another record."""
    attrs = {"record": {**(recorded.facts.environment or {}), **record}}
    return RecordedTrial(recorded.study, replace(recorded.trial, val_loss=val_loss, attrs=attrs))


def test_another_version_is_shown_and_tolerated(study: Study) -> None:
    recorded = study.recorded(0)
    assert recorded.trial.val_loss is not None
    loss, corpus, shown = recorded.trial.val_loss, load_corpus(Path(study.corpus)), list[str]()
    near = replay_trial(changed(recorded, loss + 0.01, torch="1.0"), corpus, "cpu", shown.append)
    assert shown[0].startswith("torch was 1.0, is 2.")
    assert (near.met, near.tolerance, near.relative) == (True, 0.02, False)
    assert near.verdict == "match, but torch differs (tolerance 0.02)"
    far = replay_trial(changed(recorded, loss + 0.03, torch="1.0"), corpus, "cpu", shown.append)
    assert not far.met
    same_place = replay_trial(changed(recorded, loss + 1e-12), corpus, "cpu", shown.append)
    assert (same_place.met, same_place.tolerance) == (False, None)


@pytest.mark.parametrize(("value", "shift", "met"), [(0.05, 0.015, False), (100.0, 0.015, True), (0.05, 2e-5, True)])
def test_an_own_objective_with_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, shift: float, met: bool
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_metric.py").write_text('def loss(params, seed):\n    yield 1, params["x"], params["x"]\n')
    text = f'objective = "own_metric:loss"\n[grid]\nx = [{value}]\n'
    planned = PlannedStudy(load_definition(write_study(tmp_path, text, "own")), "own", None)
    [plan] = study_plans(planned)
    record = {**environment("cpu", ["own_metric"]), "code": "0123"}
    trial = TrialSummary(
        study="own",
        number=0,
        cell={"x": value, "seed": 1337},
        state="complete",
        attempts=1,
        owner=None,
        lease_left_s=None,
        step=1,
        train_loss=value,
        val_loss=value + shift,
        value=value + shift,
        reason=None,
        seconds=1.0,
        attrs={"record": record},
    )
    recorded = RecordedTrial(planned_study(plan), trial)
    found = replay_trial(recorded, None, "cpu", lambda _: None)
    assert (found.met, found.different) == (met, ("code",))
    equal = replay_trial(changed(recorded, value), None, "cpu", lambda _: None)
    assert equal.verdict == "match, but code differs (exact)"
    same_code = replay_trial(
        changed(recorded, value + shift, code=environment("cpu", ["own_metric"])["code"]), None, "cpu", lambda _: None
    )
    assert (same_code.verdict, bool(same_code.advice)) == ("no match (exact)", True)


@pytest.mark.parametrize(
    ("recorded", "again", "tolerance", "relative", "different", "verdict", "met"),
    [
        (1.0, 1.0, None, True, (), "match (exact)", True),
        (1.0, 1.0 + 1e-12, None, True, (), "no match (exact)", False),
        (0.0, 1e-9, 0.001, True, ("code",), "no match, and code differs (tolerance 0.1 %)", False),
        (-5e8, -5.001e8, 0.001, True, ("a", "b", "c"), "match, but a, b and c differ (tolerance 0.1 %)", True),
        (1.0, 1.01, 0.02, False, (), "match (tolerance 0.02)", True),
        (None, None, 0.02, False, ("record",), "match, but the trial has no record of code and machine (exact)", True),
        (None, 1.0, None, False, (), "no match (exact)", False),
    ],
)
def test_verdicts(
    recorded: float | None,
    again: float | None,
    tolerance: float | None,
    relative: bool,
    different: tuple[str, ...],
    verdict: str,
    met: bool,
) -> None:
    found = Comparison("small", 0, 1, recorded, again, tolerance, relative, different, ())
    assert (found.verdict, found.met, found.as_dict()["verdict"]) == (verdict, met, verdict)
    assert bool(found.advice) == (not met and (not relative or not different))


def test_what_differs() -> None:
    now = environment("cpu", ["fake_objective"])
    assert differences(now, now) == ({}, ())
    decisive, others = differences({**now, "python": "3.1.0", "optuna": "1.0"}, now)
    assert decisive == {"python": f"python was 3.1.0, is {now['python']}"}
    assert others == (f"optuna was 1.0, is {now['optuna']}",)
    assert differences(None, now)[0] == {
        "record": "the trial has no record of versions and machine: an older version of lm-search trained it"
    }


def test_a_full_disk_costs_the_files_and_not_the_result(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / ".parts").write_text("a file in place of the folder of parts")
    file, corpus, storage = write_study(tmp_path), write_corpus(tmp_path), sqlite(tmp_path)
    run_study(file, corpus=corpus, storage=storage, plan_only=True)
    options = ["--study", file, "--corpus", corpus, "--storage", storage, "--artifacts", str(tmp_path / "kept")]
    done = program("worker", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cannot store record.json: Not a directory; the losses are stored" in done.stderr
    assert {row["outcome"] for row in all_rows(storage)} == {"complete"}


def test_no_artifacts_with_none(tmp_path: Path) -> None:
    file, corpus, storage = write_study(tmp_path), write_corpus(tmp_path), sqlite(tmp_path)
    run_study(file, corpus=corpus, storage=storage, plan_only=True)
    options = ["--study", file, "--corpus", corpus, "--storage", storage, "--artifacts", "none"]
    done = program("worker", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "search-out" / "artifacts").exists()
    with opened(storage).closing() as database:
        assert read_recorded_trial(database, "small", 0).facts.environment is not None
