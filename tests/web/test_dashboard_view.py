"""What Optuna's dashboard makes of a finished study: its own application, asked without a network."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest

optuna_dashboard = pytest.importorskip("optuna_dashboard")

Get = Callable[[str], Any]


@pytest.fixture(scope="module")
def get(finished: Any) -> Iterator[Get]:
    """A GET request to the dashboard of the finished study; the JSON that it answers."""
    storage = optuna.storages.RDBStorage(finished.storage)
    application = optuna_dashboard.wsgi(storage)

    def ask(path: str) -> Any:
        environment: dict[str, Any] = {}
        setup_testing_defaults(environment)
        path, _, query = path.partition("?")
        errors = io.StringIO()
        environment |= {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": "GET", "wsgi.errors": errors}
        status: list[str] = []
        body = b"".join(application(environment, lambda code, headers, exc_info=None: status.append(code)))
        assert status == ["200 OK"], (status, body, errors.getvalue())
        assert errors.getvalue() == ""
        return json.loads(body)

    yield ask
    storage.engine.dispose()


def study_id(get: Get, name: str) -> int:
    studies = {study["study_name"]: study["study_id"] for study in get("/api/studies")["study_summaries"]}
    found: int = studies[name]
    return found


def test_both_studies_are_listed(get: Get) -> None:
    names = [study["study_name"] for study in get("/api/studies")["study_summaries"]]
    assert sorted(names) == ["small", "small-baselines"]


def test_every_trial_has_its_curve(get: Get) -> None:
    detail = get(f"/api/studies/{study_id(get, 'small')}?after=0")
    assert len(detail["trials"]) == 16
    for trial in detail["trials"]:
        assert trial["state"] == "Complete"
        steps = [point["step"] for point in trial["intermediate_values"]]
        assert steps == [0, 10, 20, 30, 40]
        assert trial["values"] == [trial["intermediate_values"][-1]["value"]]
    assert detail["directions"] == ["minimize"]
    assert set(detail["best_trials"][0]["params"][0]) >= {"name", "param_external_value"}


def test_importances_of_the_axes(get: Get) -> None:
    [importances] = get(f"/api/studies/{study_id(get, 'small')}/param_importances")["param_importances"]
    found = {each["name"]: each["importance"] for each in importances}
    # Optuna's own parameters for the seed are ranges of one value each, which cannot be important.
    assert found.pop("seed", 0.0) == 0.0
    assert set(found) == {"pe_type", "n_embd", "block_size"}
    assert sum(found.values()) == pytest.approx(1.0)


def test_study_of_the_baselines_opens(get: Get) -> None:
    detail = get(f"/api/studies/{study_id(get, 'small-baselines')}?after=0")
    assert [trial["state"] for trial in detail["trials"]] == ["Complete", "Complete"]
