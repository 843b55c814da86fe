"""The answers of the dashboard are those of stock optuna-dashboard on the same database, whatever happens to trials."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.types import WSGIApplication

import optuna_dashboard
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState
from optuna_studies import STUDIES, make_optuna_studies
from sample_study import CELLS, STUDY, engines_closed, optuna_storage, sample_plan
from wsgi_client import ask

from search.storage import growth, optuna_tables
from search.storage.connect import open_database
from search.storage.dashboard_storage import DashboardStorage
from search.storage.database import Database
from search.storage.errors import StorageUnavailable
from search.storage.leases import Lease, Report
from search.storage.planning import plan
from search.storage.queue import TrialQueue
from search.storage.schema import DEFINITION
from search.web import study_copy, study_pages, trial_choice
from search.web.access import Access
from search.web.app import protected_dashboard
from search.web.json_times import ZonedTimes
from search.web.study_json import LEFT_OUT
from search.web.study_pages import StudyPages

Compare = Callable[[], None]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The dashboard looks for changes at each question; connections are closed."""
    monkeypatch.setattr(study_copy, "MAX_AGE_S", 0.0)
    with engines_closed():
        yield


def ours(url: str) -> WSGIApplication:
    return protected_dashboard(url, None, Access(writable=True, token=None))


def stock(url: str) -> WSGIApplication:
    """Stock's dashboard; it keeps trials for seconds, so each moment needs a new one."""
    app: WSGIApplication = ZonedTimes(optuna_dashboard.wsgi(optuna_storage(url)))
    return app


def ordered(answer: Any) -> Any:
    """An answer whose lists are in order where optuna-dashboard leaves the order to chance."""
    if isinstance(answer, dict):
        for space in ("union_search_space", "intersection_search_space"):
            for parameter in answer.get(space, ()):
                parameter["distribution"].get("choices", []).sort(key=str)
        answer.get("plotly_graph_objects", []).sort(key=lambda each: each["id"])
        answer.get("union_user_attrs", []).sort(key=lambda each: each["key"])
        of_trials = (*answer.get("trials", ()), *answer.get("best_trials", ()))
        for each in (answer, *of_trials, *answer.get("study_summaries", ())):
            each.get("user_attrs", []).sort(key=lambda attr: attr["key"])
    return answer


def compare(app: WSGIApplication, url: str, *paths: str) -> None:
    of_stock = stock(url)
    for path in paths:
        mine, theirs = ask(app, path), ask(of_stock, path)
        assert mine.status == theirs.status, path
        assert ordered(mine.json()) == ordered(theirs.json()), path


def pages(study_id: int = 1) -> list[str]:
    study = f"/api/studies/{study_id}"
    return [
        "/api/studies",
        study,
        f"{study}?after=0",
        f"{study}?after=3",
        f"{study}?after=999",
        f"{study}/",
        *wrong(study),
    ]


def wrong(study: str) -> list[str]:
    return [f"{study}?after=-1", "/api/studies/77", "/api/studies/77/param_importances", f"{study}/param_importances"]


def test_a_study_that_changes(database: Database, storage_url: str) -> None:
    plan(database, [sample_plan()])
    app, queue = ours(storage_url), TrialQueue(database)
    compare(app, storage_url, *pages())

    leases = [queue.claim([STUDY], f"worker {at}")[0] for at in range(5)]
    queue.report([Report(lease, 0, 4.0, 4.5 + lease.number) for lease in leases[:2]])
    compare(app, storage_url, *pages())
    optuna_storage(storage_url).set_trial_user_attr(leases[0].trial_id, "lr", 0.5)
    queue.report([Report(leases[0], 10, 4.0, float("inf"))])
    compare(app, storage_url, *pages())
    optuna_storage(storage_url).set_trial_user_attr(leases[0].trial_id, "lr", [1, {"a": "ü"}])
    _end(queue, leases)
    compare(app, storage_url, *pages())

    # A trial that waits is noticed when it gets an attribute; one that was begun is always looked at.
    waiting = _trial_id(storage_url, TrialState.WAITING)
    optuna_storage(storage_url).set_trial_user_attr(waiting, "why", "later")
    queue.release(leases[4])
    compare(app, storage_url, *pages())
    [again] = queue.claim([STUDY], "worker 4")
    queue.report([Report(again, 5, 3.0, 3.5)])
    queue.release(again)
    compare(app, storage_url, *pages())

    database.write(lambda connection: optuna_tables.remove_artifacts(connection, [leases[0].trial_id]))
    queue.retry_failed([STUDY])
    compare(app, storage_url, *pages())
    wider = {"n_embd": CategoricalDistribution([32, 64, 128, 256])}
    database.write(lambda connection: growth.rewrite_distributions(connection, 1, wider))
    database.write(lambda connection: optuna_tables.write_study_attrs(connection, 1, {DEFINITION: {"grown": True}}))
    compare(app, storage_url, *pages())


def _end(queue: TrialQueue, leases: list[Lease]) -> None:
    artifact = {"artifacts:a1": '{"artifact_id": "a1", "filename": "f", "mimetype": "text/csv", "encoding": null}'}
    sample = {"sample": 'a "quoted"\n' * 300, "losses": [0.5] * 400, "flag": True, "none": None}
    queue.finish(leases[0], "complete", 2.5, sample, None, artifact)
    queue.finish(leases[1], "pruned", 3.5, {}, "worse")
    queue.finish(leases[2], "failed", None, {"n_params": 7}, "broken")
    queue.finish(leases[3], "complete", 2.25, {"n_params": 7}, None)


def _trial_id(url: str, state: TrialState) -> int:
    return next(trial._trial_id for trial in optuna_storage(url).get_all_trials(1) if trial.state == state)


def test_changes_through_the_dashboard_are_seen_at_once(
    database: Database, storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_copy, "FRESH_S", 1e6)
    monkeypatch.setattr(study_copy, "MAX_AGE_S", 1e6)
    plan(database, [sample_plan()])
    app, queue = ours(storage_url), TrialQueue(database)
    [lease] = queue.claim([STUDY], "worker")
    compare(app, storage_url, *pages())
    changes: list[tuple[str, str, Any]] = [
        ("PUT", "/api/studies/1/note", {"version": 1, "body": "# A note\n" * 400}),
        ("PUT", "/api/studies/1/note", {"version": 2, "body": "shorter"}),
        ("PUT", f"/api/studies/1/{lease.trial_id}/note", {"version": 1, "body": "of a trial"}),
        ("POST", f"/api/trials/{lease.trial_id}/user-attrs", {"user_attrs": {"seen": 1}}),
        ("POST", f"/api/trials/{lease.trial_id + 1}/user-attrs", {"user_attrs": {"seen": "by me"}}),
        ("POST", f"/api/trials/{lease.trial_id}/tell", {"state": "Complete", "values": [1.5]}),
        ("PUT", f"/api/studies/1/{lease.trial_id}/note", {"version": 2, "body": "of an ended trial"}),
        ("DELETE", "/api/studies/1", {}),
    ]
    for method, path, sent in changes:
        assert ask(app, path, method, sent).status.startswith("204"), path
        compare(app, storage_url, *pages())
    # SQLite gives its ids to the next study.
    plan(database, [sample_plan(study="other", seeds=2)])
    again = 1 if "sqlite" in storage_url else 2
    ask(app, "/api/studies/77", "DELETE", {})
    compare(app, storage_url, *pages(again))


def test_an_outage_is_said_and_ends(database: Database, storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(database, [sample_plan()])
    app = ours(storage_url)
    compare(app, storage_url, *pages())

    def fail(*_: Any) -> None:
        raise StorageUnavailable("postgresql://search:***@db did not answer")

    with monkeypatch.context() as outage:
        outage.setattr(Database, "snapshot", fail)
        for path in ("/api/studies/1", "/api/studies/1/param_importances", "/api/studies/5"):
            answer = ask(app, path)
            assert (answer.status, answer.headers["content-type"]) == ("503 Service Unavailable", "application/json")
            assert answer.json() == {"reason": "The database does not answer: try again in a minute."}
    compare(app, storage_url, *pages())


def test_few_studies_are_kept(storage_url: str) -> None:
    make_optuna_studies(storage_url)
    with open_database(storage_url, create=False, optuna_alone="read").closing() as database:
        storage = DashboardStorage(database)
        pages = StudyPages(optuna_dashboard.wsgi(storage), storage)
        pages_kept = pages._copies
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(study_pages, "MOST_COPIES", 2)
            for study_id in (1, 2, 1, 3, 77):
                ask(pages, f"/api/studies/{study_id}")
        # What was asked last is kept, and nothing of a study that does not exist.
        assert list(pages_kept) == [3]


def test_studies_of_optuna(storage_url: str) -> None:
    make_optuna_studies(storage_url)
    app = ours(storage_url)
    for study_id in range(1, len(STUDIES) + 1):
        compare(app, storage_url, *pages(study_id))


def test_a_version_of_optuna_dashboard_without_our_functions(
    database: Database, storage_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plan(database, [sample_plan()])
    monkeypatch.delitem(sys.modules, "search.web.study_pages", raising=False)
    monkeypatch.setitem(sys.modules, "search.web.trial_json", None)
    monkeypatch.delitem(sys.modules, "search.web.study_copy")
    compare(ours(storage_url), storage_url, *pages())
    assert "shows large studies slowly" in caplog.text


class Page:
    """What a browser keeps of a study, as the page of optuna-dashboard does."""

    def __init__(self, app: WSGIApplication, study_id: int = 1) -> None:
        self.app, self.path = app, f"/api/studies/{study_id}"
        self.trials: list[dict[str, Any]] = []

    def refresh(self) -> dict[str, Any]:
        after = next((at for at, each in enumerate(self.trials) if each["state"] in ("Running", "Waiting")), None)
        after = len(self.trials) if after is None else after
        detail: dict[str, Any] = ask(self.app, f"{self.path}?after={after}").json()
        self.trials = [*self.trials[:after], *detail["trials"]]
        return detail


def test_a_large_study(database: Database, storage_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its trials end in any order, an open page is what a new one would be, and shows all that matters."""
    monkeypatch.setattr(trial_choice, "WHOLE", 10)
    monkeypatch.setattr(trial_choice, "MOST_TRIALS", 20)
    monkeypatch.setattr(trial_choice, "MOST_CURVES", 5)
    plan(database, [sample_plan(seeds=6)])
    app, queue, draws = ours(storage_url), TrialQueue(database), random.Random(3)
    total, page, held = 6 * CELLS, Page(app), list[Lease]()
    for at in range(total + 7):
        held += queue.claim([STUDY], f"worker {at}")
        if len(held) > 7 or at >= total:
            lease = held.pop(draws.randrange(len(held)))
            queue.report([Report(lease, step, 1.0, 9.0 - step) for step in (0, 1)])
            queue.finish(lease, "complete", draws.random(), {"n": lease.number}, None)
        if at % 5 == 0 or not held:
            detail = page.refresh()
            assert page.trials == ask(app, "/api/studies/1").json()["trials"]
            _check_large(detail, page.trials, ask(stock(storage_url), "/api/studies/1").json())
    assert not held
    numbers = [trial["number"] for trial in page.trials]
    assert total / 4 <= len(numbers) < total / 2


def _check_large(mine: dict[str, Any], trials: list[dict[str, Any]], theirs: dict[str, Any]) -> None:
    """The trials are stock's, but for what the docs name; the best and the running ones are among them."""
    by_number = {trial["number"]: trial for trial in theirs["trials"]}
    numbers = [trial["number"] for trial in trials]
    assert numbers == sorted(set(numbers))
    assert {each["number"] for each in theirs["trials"] if each["state"] == "Running"} <= set(numbers)
    values = [trial.get("values", [float("inf")])[0] for trial in theirs["trials"]]
    records = {at for at, value in enumerate(values) if value < min(values[:at], default=float("inf"))}
    assert records <= set(numbers)
    for trial in (*trials, *mine["best_trials"]):
        of_stock = by_number[trial["number"]]
        assert trial["intermediate_values"] in ([], of_stock["intermediate_values"])
        for parameter, of_stocks in zip(trial["params"], of_stock["params"], strict=True):
            assert parameter["distribution"] == {"type": of_stocks["distribution"]["type"]}
        left_out = ("params", "intermediate_values")
        assert {key: trial[key] for key in trial if key not in left_out} == {
            key: of_stock[key] for key in of_stock if key not in left_out
        }
    assert [each["number"] for each in mine["best_trials"]] == [each["number"] for each in theirs["best_trials"]]
    [said, *rest] = mine["user_attrs"]
    assert said["key"] == LEFT_OUT
    assert f"of {len(theirs['trials']):,} trials: one of 4" in said["value"]
    assert rest == theirs["user_attrs"]
    same = ("name", "directions", "note", "artifacts", "is_preferential", "plotly_graph_objects", "objective_names")
    assert {key: mine.get(key) for key in same} == {key: theirs.get(key) for key in same}
