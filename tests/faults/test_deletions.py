"""Studies and trials that other programs delete or end while a worker trains them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import optuna
import pytest
from scenario import FaultStudy, MakeStudy, reading
from sqlalchemy import text

from search.errors import UsageError
from search.service import run_study
from search.storage.failures import Failure
from search.storage.url import parse_url


def with_optuna(study: FaultStudy, act: Callable[[optuna.storages.RDBStorage, int], object]) -> None:
    """Act on Optuna's own storage of the database, as another program does."""
    storage = optuna.storages.RDBStorage(parse_url(study.url).render_as_string(hide_password=False))
    try:
        act(storage, storage.get_study_id_from_name(study.name))
    finally:
        storage.engine.dispose()


def delete_study(study: FaultStudy) -> None:
    with_optuna(study, lambda storage, study_id: storage.delete_study(study_id))


def delete_and_plan_again(study: FaultStudy) -> None:
    delete_study(study)
    study.plan()


def delete_with_sql(study: FaultStudy) -> None:
    """Delete the trial as a person with an SQL prompt does; its rows are next in Optuna's tables of that name."""
    [trial_id] = [row.trial_id for row in study.rows() if row.state == "running"]
    tables = ("trial_params", "trial_intermediate_values", "trial_values", "trial_user_attributes", "trials")
    with reading(study.url) as connection:
        for table in tables:
            connection.execute(text(f"DELETE FROM {table} WHERE trial_id = {trial_id}"))
        connection.commit()


def fail(study: FaultStudy) -> None:
    [trial_id] = [row.trial_id for row in study.rows() if row.state == "running"]
    with_optuna(study, lambda storage, _: storage.set_trial_state_values(trial_id, optuna.trial.TrialState.FAIL))


DELETED = "discarding its work: the study or the trial was deleted"


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (delete_study, DELETED),
        (delete_and_plan_again, DELETED),
        (delete_with_sql, DELETED),
        (fail, "discarding its work: ended by another program, such as the dashboard"),
    ],
)
def test_a_worker_learns_what_happened_to_its_trial(
    make_study: MakeStudy, happens: Callable[[FaultStudy], None], why: str
) -> None:
    study = make_study(2, ms=1, lease_s=60)
    study.plan()
    gate = study.close_gate(7, {"slot": 1})
    worker = study.start_worker()
    gate.wait()
    assert list(study.out.rglob("checkpoint"))

    happens(study)
    gate.open()

    assert study.join() == [0], study.logs()
    log = study.log(worker)
    assert log.count(why) == 1
    assert "Traceback" not in log
    gone = [f"the study '{study.name}' was deleted while this worker trained it"]
    assert [line for line in gone if line in log] == (gone if happens in (delete_study, delete_and_plan_again) else [])
    assert not list(study.out.rglob("checkpoint")), "its checkpoint is removed"
    records = [path for path in (study.out / "artifacts").glob("*") if path.is_file()]
    check_rows(study, happens, len(records))


def check_rows(study: FaultStudy, happens: Callable[[FaultStudy], None], artifacts: int) -> None:
    states = [(json.loads(row.cell)["slot"], row.state, row.outcome) for row in study.rows()]
    if happens is delete_study:
        assert (states, artifacts) == ([], 0)
    elif happens is delete_and_plan_again:
        assert states == [(slot, "waiting", None) for slot in (0, 1)], "the old worker claims nothing of the new study"
        study.repair()
        study.check_exactly_once()
    elif happens is delete_with_sql:
        assert states == [(0, "done", "complete")]
        study.repair()
        assert {json.loads(row.cell)["slot"]: row.outcome for row in study.rows()} == {0: "complete", 1: "complete"}
    else:
        assert states == [(0, "done", "complete"), (1, "done", "failed")]
        failure = Failure.from_json(study.rows()[1].failure)
        assert failure is not None
        assert (failure.kind, failure.step) == ("failed from outside", 6)
        assert failure.worker is not None


def test_a_run_whose_study_is_deleted_ends_with_one_line(make_study: MakeStudy) -> None:
    study = make_study(2, ms=1, lease_s=60)
    gate = study.close_gate(7)
    with patch.dict(os.environ, study.environment), ThreadPoolExecutor(1) as pool:
        keywords = {"corpus": study.corpus_file, "out": study.out, "workers": 1, "quiet": True}
        run = pool.submit(run_study, str(study.file), storage=study.url, **keywords)
        gate.wait()
        delete_study(study)
        gate.open()
        with pytest.raises(UsageError, match=r"'faulty' was deleted from .* while it ran; plan it again with"):
            run.result(100)
