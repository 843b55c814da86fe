"""What a run says before it trains anything."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from finished_studies import End, completed, ended_study, half
from sqlalchemy import text
from study_files import REAL, write_study

from search.objectives.corpus import encode
from search.objectives.language_model.objective import LanguageModelObjective
from search.objectives.registry import DEFAULT_OBJECTIVE, OBJECTIVES
from search.reporting.cost_text import estimate_line
from search.statistics import estimate as module
from search.statistics.estimate import Estimate, estimate
from search.storage.database import Database
from search.study.definition import load_definition
from search.study.planner import Study

TEXT = "the cat sat on the mat,\nthe rat sat on the hat.\n" * 40


def study(folder: Path, content: str, seeds: int = 2) -> Study:
    definition = load_definition(write_study(folder, content)).model_copy(update={"seeds": seeds})
    return Study(definition, "small", encode("text", TEXT))


def set_attrs(database: Database, key: str, value: str, where: str) -> None:
    with database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT OR REPLACE INTO trial_user_attributes (trial_id, key, value_json)"
                f" SELECT trial_id, :key, :value FROM search_runs WHERE outcome = 'complete' AND {where}"
            ),
            {"key": key, "value": value},
        )


def test_a_new_study_has_no_times(tmp_path: Path) -> None:
    with ended_study(tmp_path, lambda cell: None, seeds=2, study=REAL) as database:
        planned = study(tmp_path, REAL)
        LanguageModelObjective().prepare()  # as the checks of new cells do
        found = estimate(database, planned)
        expected = sum(
            LanguageModelObjective().operations(cell, planned.definition.training, planned.corpus) or 0.0
            for cell in planned.definition.cells
        )
        assert found == Estimate(4, 2 * expected, None, 0)
        assert estimate_line(found) == (
            f"4 trials, {2 * expected:.3g} floating-point operations if none is pruned; how long they take is known "
            "once a trial is complete"
        )


def test_trials_of_the_same_cell_tell_how_long(tmp_path: Path) -> None:
    priced = "[cost]\nper_device_hour = 3600\ncurrency = 'EUR'\n"

    def first_seed(cell: Mapping[str, Any]) -> End | None:
        return completed(cell) if cell["seed"] == 1337 or cell["seed"] == 0 else None

    with ended_study(tmp_path, first_seed, seeds=2, study=REAL + priced) as database:
        set_attrs(database, "train_seconds", "10.0", "cell LIKE '%rope%'")
        found = estimate(database, study(tmp_path, REAL + priced))
        assert (found.trials, found.seconds, found.timed) == (2, 11.5, 2)
        assert found.price == pytest.approx(11.5)
        line = estimate_line(found)
        assert line.endswith("about 11.5 s of devices, 11.50 EUR, as 2 complete trials took")


def test_trials_of_other_cells_tell_it_by_their_speed(tmp_path: Path) -> None:
    def one(cell: Mapping[str, Any]) -> End | None:
        return completed(cell) if cell["pe_type"] == "randn" else None

    with ended_study(tmp_path, one, seeds=1, study=REAL) as database:
        planned = study(tmp_path, REAL, seeds=1)
        set_attrs(database, "train_seconds", "4.0", "1")
        found = estimate(database, planned)
        assert found.flops is not None
        assert found.seconds == 4.0, "without a count as long as the others"
        set_attrs(database, "flops", str(found.flops / 3), "1")
        assert estimate(database, planned).seconds == pytest.approx(12.0), "at their speed"
        set_attrs(database, "flops", str(found.flops), "1")
        assert estimate(database, planned).seconds == pytest.approx(4.0), "as trials of as many operations"


def test_an_objective_that_counts_nothing(tmp_path: Path) -> None:
    from finished_studies import GRID

    with ended_study(tmp_path, half, seeds=1) as database:
        found = estimate(database, study(tmp_path, GRID, seeds=1))
    assert found.flops is None
    assert found.seconds == pytest.approx(1.5 * found.trials)
    assert estimate_line(None) == ""
    assert estimate_line(Estimate(0, 0.0, 0.0, 3)) == ""


def test_counting_imports_nothing_and_has_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ended_study(tmp_path, lambda cell: None, seeds=2, study=REAL) as database:
        planned = study(tmp_path, REAL)
        assert planned.definition.objective == DEFAULT_OBJECTIVE in OBJECTIVES
        with monkeypatch.context() as patched:
            patched.setattr(module, "COUNTING_S", 0.0)
            assert estimate(database, planned).flops is None
        with monkeypatch.context() as patched:
            patched.delitem(sys.modules, "torch")
            assert estimate(database, planned).flops is None
            assert "torch" not in sys.modules
        with monkeypatch.context() as patched:
            patched.setattr(LanguageModelObjective, "operations", lambda *_: 1 / 0)
            assert estimate(database, planned).flops is None
