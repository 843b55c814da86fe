"""Pruners by name: ours, Optuna's with arguments, a person's own; and that each works on the database."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from optuna.pruners import BasePruner
from optuna.study import Study
from sample_study import CELLS, STUDY, optuna_storage, sample_plan
from study_files import REAL, program, sqlite, write_corpus, write_study

from search.errors import UsageError
from search.storage.database import Database
from search.storage.leases import Report
from search.storage.optuna_storage import SearchStorage
from search.storage.planning import plan
from search.storage.queue import TrialQueue
from search.strategies.pruners import OPTUNAS, PRUNERS, check_pruner, make_pruner, read_pruner
from search.strategies.pruning_judge import PruningJudge
from search.strategies.top_cells import TopCellsPruner
from search.study.definition import load_definition
from search.study.pruner_settings import PrunerSettings
from search.study.user_modules import extend_sys_path

SHARED = {"warmup_steps": 2000, "keep": 5, "min_trials": 4}
STEPS = (0, 500, 1000, 1500, 2000)
WRAPPED = {"name": "PatientPruner", "patience": 0, "wrapped_pruner": {"name": "MedianPruner", "n_startup_trials": 1}}
WITH_ARGUMENTS: dict[str, dict[str, Any]] = {
    "PercentilePruner": {"percentile": 25.0, "n_startup_trials": 2},
    "MedianPruner": {"n_startup_trials": 2},
    "ThresholdPruner": {"upper": 3.5, "n_warmup_steps": 500},
    "WilcoxonPruner": {"p_threshold": 0.2},
    "SuccessiveHalvingPruner": {"min_resource": 500},
    "HyperbandPruner": {"min_resource": 500, "max_resource": 2000, "reduction_factor": 2},
    "PatientPruner": {"patience": 0},
    "NopPruner": {},
}


def test_every_pruner_of_optunas_is_a_name() -> None:
    assert OPTUNAS.keys() == WITH_ARGUMENTS.keys()


@pytest.mark.parametrize("name", ["none", "top", "median", "sha", "hyperband"])
def test_old_settings_are_read_and_stored_as_they_were(name: str) -> None:
    stored = {"name": name, **SHARED}
    settings = PrunerSettings.model_validate(stored)
    assert settings.model_dump() == stored
    assert isinstance(make_pruner(settings, None), BasePruner)  # type: ignore[arg-type]
    assert PrunerSettings.model_validate({"name": name}).model_dump() == stored


def test_arguments_of_a_study_file(tmp_path: Path) -> None:
    text = '[grid]\nx = [1]\n[pruner]\nname = "PercentilePruner"\npercentile = 25.0\nn_warmup_steps = 500\n'
    file = write_study(tmp_path, text)
    pruner = load_definition(file).pruner
    assert pruner.model_dump() == {"name": "PercentilePruner", "percentile": 25.0, "n_warmup_steps": 500}
    assert load_definition(file, ["percentile=10.0"]).pruner.arguments["percentile"] == 10.0
    assert PrunerSettings.model_validate(pruner.model_dump()) == pruner


class TestCommandLine:
    def test_shared_settings_stay(self) -> None:
        before = PrunerSettings.model_validate({"name": "top", "warmup_steps": 500, "min_trials": 2})
        assert read_pruner("median", before).arguments == {"warmup_steps": 500, "min_trials": 2}
        assert read_pruner("top", before) == before
        assert read_pruner("NopPruner", before).arguments == {}

    def test_arguments(self) -> None:
        expected = {"name": "PercentilePruner", "percentile": 25.0, "n_warmup_steps": 500}
        assert read_pruner("PercentilePruner(25.0, n_warmup_steps=500)").model_dump() == expected
        assert read_pruner("top(keep=3)").arguments == {"warmup_steps": 2000, "keep": 3}
        nested = read_pruner("PatientPruner(MedianPruner(1), patience=0)")
        assert nested.model_dump() == {**WRAPPED, "wrapped_pruner": {"name": "MedianPruner", "n_startup_trials": 1}}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("foo", "--pruner foo: choices are none, top, median, sha, hyperband, HyperbandPruner, .*module:Class"),
            ("medain", r".*\(did you mean 'median'\?\)"),
            (
                "PercentilePruner",
                "--pruner PercentilePruner: missing 1 required .*'percentile'; it takes percentile, n_s",
            ),
            ("PercentilePruner(250.0)", "Percentile must be between 0 and 100 inclusive, but got percentile=250"),
            ("PercentilePruner(25, warmup=3)", "got an unexpected keyword argument 'warmup'; it takes percentile, "),
            ("NopPruner(3)", "NopPruner takes nothing"),
            ("ThresholdPruner()", "Either lower or upper must be specified"),
            ("Percentile(", "write NAME or NAME.ARGUMENTS., such as ThresholdPruner"),
            ("top(keep=0)", "keep.*greater than or equal to 1"),
            ("top(keeps=1)", "keeps"),
            ("PatientPruner(patience=-1)", "patience cannot be negative"),
            ("PatientPruner(wrapped_pruner=3, patience=1)", "wrapped_pruner = 3; write it as"),
            ("optuna.pruners:NopPrunr", "the module 'optuna.pruners' has no 'NopPrunr'"),
            ("collections:OrderedDict", "is not a pruner; derive it from optuna.pruners.BasePruner"),
        ],
    )
    def test_faults_are_one_line(self, text: str, message: str) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            read_pruner(text)
        assert "\n" not in str(caught.value)


def test_a_fault_of_the_study_file_is_found_before_anything_is_written(tmp_path: Path) -> None:
    file = write_study(tmp_path, REAL.replace('name = "none"', 'name = "PercentilePruner"\npercent = 3'))
    ran = program("run", "--study", file, "--corpus", write_corpus(tmp_path), cwd=tmp_path)
    assert ran.returncode == 2
    assert re.fullmatch(
        r"error: pruner.name = 'PercentilePruner': got an unexpected keyword argument 'percent'.*; it takes .*\n",
        ran.stderr,
    )
    assert not Path(sqlite(tmp_path).removeprefix("sqlite:///")).exists()


def test_a_persons_own_with_the_history(tmp_path: Path) -> None:
    (tmp_path / "own_pruners_here.py").write_text(
        "from optuna.pruners import BasePruner\n\n\n"
        "class Mine(BasePruner):\n"
        "    def __init__(self, history, limit=3.0):\n"
        "        self.history, self.limit = history, limit\n\n"
        "    def prune(self, study, trial):\n"
        "        return trial.intermediate_values[trial.last_step] > self.limit\n",
        encoding="utf-8",
    )
    extend_sys_path(tmp_path)
    settings = PrunerSettings.model_validate({"name": "own_pruners_here:Mine", "limit": 2.0})
    check_pruner(settings)
    history: Any = object()
    made: Any = make_pruner(settings, history)
    assert (made.history, made.limit) == (history, 2.0)


def test_the_registry_names_what_is_there() -> None:
    top = make_pruner(PrunerSettings(), None)  # type: ignore[arg-type]
    assert isinstance(top, TopCellsPruner)
    assert list(PRUNERS) == ["none", "top", "median", "sha", "hyperband"]


# On PostgreSQL those that read the most: all earlier trials of the study, and rungs.
ON_A_SERVER = ("HyperbandPruner", "wrapped")


@pytest.mark.parametrize(
    ("storage_url", "name"),
    [
        *(("sqlite", name) for name in (*WITH_ARGUMENTS, "wrapped")),
        *(("postgresql", name) for name in ON_A_SERVER),
        *(
            pytest.param("postgresql", name, marks=pytest.mark.soak)
            for name in WITH_ARGUMENTS
            if name not in ON_A_SERVER
        ),
    ],
    indirect=["storage_url"],
)
def test_it_decides_like_optuna_on_the_same_database(database: Database, storage_url: str, name: str) -> None:
    """Two workers, each with a pruner of its own, against Optuna's own pruner and storage."""
    plan(database, [sample_plan()])
    queue = TrialQueue(database)
    settings = PrunerSettings.model_validate(WRAPPED if name == "wrapped" else {"name": name, **WITH_ARGUMENTS[name]})
    judges = [PruningJudge(SearchStorage(database), STUDY, settings) for _ in range(2)]
    for judge in judges:
        judge._history._refresh_s = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls some experimental, and remarks on few values
        theirs = make_pruner(settings, None)  # type: ignore[arg-type]
        storage = optuna_storage(storage_url)
        decisions = [_train(queue, judges, theirs, Study(STUDY, storage)) for _ in range(CELLS // 2)]
    storage.engine.dispose()
    assert all(ours == expected for decided in decisions for ours, expected in decided)
    pruned = sum(ours for decided in decisions for ours, _ in decided)
    assert (pruned == 0) == (name == "NopPruner")


def _train(queue: TrialQueue, judges: list[PruningJudge], theirs: BasePruner, study: Study) -> list[tuple[bool, bool]]:
    """Two trials side by side; what was decided of them, and what Optuna decides."""
    leases = queue.claim([STUDY], "ann", limit=2)
    going = {lease: judge.trial(lease) for lease, judge in zip(leases, judges, strict=True)}
    decided = []
    for step in STEPS:
        for lease, judge in zip(leases, judges, strict=True):
            if lease not in going:
                continue
            trial = going[lease]
            # Later trials are worse, and get worse after a while.
            loss = 3.0 + lease.number / 10 - min(step, 1000) / 2_000 + max(0, step - 1000) / 1_000
            assert not queue.report([Report(lease, step, loss, loss)])
            trial.intermediate_values[step] = loss
            if step == STEPS[-1]:
                queue.finish(lease, "complete", loss)
                continue
            expected = theirs.prune(study, study._storage.get_trial(lease.trial_id))
            ours = judge.should_prune(trial)
            decided.append((ours, expected))
            if ours:
                queue.finish(lease, "pruned", loss)
                del going[lease]
    return decided
