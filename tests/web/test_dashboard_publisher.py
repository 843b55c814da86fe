"""What a run publishes for the dashboard, as the dashboard's own functions read it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna_dashboard import get_note
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from plotly.graph_objects import Figure
from sample_study import STUDY, sample_plan
from sqlalchemy.engine import make_url

from search.statistics.ranking import Row
from search.storage.dashboard_attrs import claim_turn, show
from search.storage.database import Database, open_engine
from search.storage.leases import Report
from search.storage.planning import plan
from search.storage.queue import TrialQueue
from search.web.dashboard_plots import heat_maps, learning_curves, parallel_coordinates
from search.web.dashboard_publisher import publish
from search.web.publisher_thread import publish_periodically


@pytest.fixture
def study(database: Database) -> Iterator[optuna.Study]:
    """The small study as Optuna opens it."""
    plan(database, [sample_plan()])
    storage = optuna.storages.RDBStorage(database.engine.url.render_as_string(hide_password=False))
    yield optuna.load_study(study_name=STUDY, storage=storage)
    storage.engine.dispose()


def system_attrs(study: optuna.Study) -> dict[str, Any]:
    """What Optuna and its dashboard note on a study."""
    return study._storage.get_study_system_attrs(study._study_id)


def stored_plots(study: optuna.Study) -> dict[str, Any]:
    """The study's custom plots, by name."""
    return {name: json.loads(text) for name, text in get_plotly_graph_objects(system_attrs(study)).items()}


def test_note_and_plots_are_replaced_whole(database: Database, study: optuna.Study) -> None:
    show(database, STUDY, "long " * 1000, {"one": {"data": [1] * 3000}, "two": {"data": []}}, ["val_loss"])
    assert get_note(study) == "long " * 1000
    assert stored_plots(study) == {"one": {"data": [1] * 3000}, "two": {"data": []}}
    assert study.metric_names == ["val_loss"]
    show(database, STUDY, "short", {"one": {"data": [2]}}, ["val_loss"])
    assert get_note(study) == "short"
    assert stored_plots(study) == {"one": {"data": [2]}, "two": {"data": []}}
    assert system_attrs(study)["dashboard:note_ver"] == 2


def test_two_writers_at_once_leave_one_whole_note(database: Database, study: optuna.Study) -> None:
    notes = ["a" * 9000, "b" * 5000, "c" * 3000]
    threads = [threading.Thread(target=show, args=(database, STUDY, note, {}, ["val_loss"])) for note in notes * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert get_note(study) in notes
    assert system_attrs(study)["dashboard:note_ver"] == 9


def test_one_turn_a_minute_whoever_asks(database: Database, study: optuna.Study) -> None:
    turns: list[bool] = []
    threads = [threading.Thread(target=lambda: turns.append(claim_turn(database, STUDY, 60.0))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turns) == [False] * 5 + [True]
    assert claim_turn(database, STUDY, 0.0)
    assert not claim_turn(database, "none", 0.0)


def test_a_finished_run_has_published(finished: Any) -> None:
    storage = optuna.storages.RDBStorage(finished.storage)
    study = optuna.load_study(study_name="small", storage=storage)
    note, plots = get_note(study), stored_plots(study)
    sibling = get_note(optuna.load_study(study_name="small-baselines", storage=storage))
    names = study.metric_names
    storage.engine.dispose()
    assert note.startswith("# small\n")
    assert "trials: 18 complete" in note
    assert note.count("| complete |") == 9
    assert sibling.startswith("# small-baselines\n")
    assert names == ["val_loss"]
    assert set(plots) == {"heat-maps", "learning-curves", "parallel-coordinates"}
    for plot in plots.values():
        Figure(plot)  # plotly refuses what it does not know
    assert [title["text"] for title in plots["heat-maps"]["layout"]["annotations"]] == ["randn", "rope"]
    assert plots["heat-maps"]["data"][0]["y"] == ["8", "16"]
    assert [curve["x"] for curve in plots["learning-curves"]["data"] if "name" in curve] == [[0, 10, 20, 30, 40]] * 8


def test_an_empty_study_is_published(database: Database, study: optuna.Study) -> None:
    publish(database, [STUDY])
    assert stored_plots(study) == {}
    assert study.metric_names in (None, ["val_loss"])


def test_a_database_that_is_away_fails_nothing(tmp_path: Path) -> None:
    url = make_url(f"sqlite:///{tmp_path / 'no' / 'folder.db'}")
    with Database(open_engine(url), outage_s=0.1).closing() as database, publish_periodically(database, [STUDY]):
        pass
    assert not publish(database, [STUDY])


def made_up_rows(count: int) -> list[Row]:
    cells = [{"n_embd": at // 100, "block_size": at % 100, "pe_type": f"p{at % 13}"} for at in range(count)]
    return [Row(1, cell, "complete", (1, 1), 2.0, 2.0 + at / count, 10, 5, 1.0, None) for at, cell in enumerate(cells)]


def grid_of(rows: list[Row]) -> dict[str, list[Any]]:
    return {name: sorted({row.cell[name] for row in rows}) for name in ("n_embd", "block_size", "pe_type")}


def test_figures_of_a_large_study_are_small() -> None:
    rows = made_up_rows(10_000)
    for figure in (heat_maps(rows, grid_of(rows)), parallel_coordinates(rows, grid_of(rows))):
        assert figure is not None
        assert len(json.dumps(figure)) < 150_000


def test_figures_that_there_are_not() -> None:
    assert heat_maps([], {"n_embd": [1, 2]}) is None
    assert learning_curves({}) is None
    assert parallel_coordinates([], {"n_embd": [1, 2]}) is None
    [row] = made_up_rows(1)
    assert parallel_coordinates([row], grid_of([row])) is None


def test_curves_end_where_a_seed_ends() -> None:
    figure = learning_curves({"cell": [[(0, 3.0), (5, 1.0)], [(0, 2.0)]]})
    assert figure is not None
    band, mean = figure["data"]
    assert (mean["x"], mean["y"]) == ([0], [2.5])
    assert band["y"] == [3.0, 2.0]


def test_running_trials_have_curves(database: Database, study: optuna.Study) -> None:
    queue = TrialQueue(database)
    [lease] = queue.claim([STUDY], "worker")
    queue.report([Report(lease, 0, 4.0, 4.0), Report(lease, 5, 3.0, 3.5)])
    began = time.monotonic()
    publish(database, [STUDY])
    assert time.monotonic() - began < 10
