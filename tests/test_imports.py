"""What programs import at their start, and without what."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from study_files import sqlite, write_study

from search.imports import importing, importing_ours
from search.options import PlanningOptions
from search.planning import open_planned

# Each takes from 10 to 100 ms, and the study needs none of it.
NEEDLESS = {"alembic", "numpy.ma", "optuna.storages._rdb.models", "rich", "scipy", "sqlalchemy.orm", "torch"}
NEEDLESS |= {f"search.statistics.{name}" for name in ("analysis_kinds", "confirmation", "scaling")}
NEEDLESS |= {"search.objectives.command.objective", "search.reporting.heatmaps", "search.workers.worker_loop"}
STUDY = 'objective = "fake_objective:start"\n[grid]\nx = [1, 2, 3]\n'


def test_collection_goes_on_after_the_imports() -> None:
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()


def test_it_stays_off_where_it_was_off() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("before", [None, "my_plugin"])
def test_plugins_of_a_user_s_models_are_found_afterwards(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYDANTIC_DISABLE_PLUGINS", raising=False)
    if before is not None:
        monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", before)
    with importing_ours():
        assert os.environ["PYDANTIC_DISABLE_PLUGINS"] == "__all__"
    assert os.environ.get("PYDANTIC_DISABLE_PLUGINS") == before


@pytest.mark.parametrize("program", ["status", "report"])
def test_a_program_imports_what_its_study_needs(program: str, work_folder: Path) -> None:
    file, storage = write_study(work_folder, STUDY), sqlite(work_folder)
    database, _ = open_planned(PlanningOptions(study=file, storage=storage))
    database.engine.dispose()
    code = (
        f"import sys, search.{program} as program\nsys.argv[1:] = ['--study', 'small', '--storage', {storage!r}]\n"
        "try:\n    program.main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('needless:', sorted({NEEDLESS!r} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=work_folder, timeout=60)
    assert done.stdout.splitlines()[-1] == "needless: []", done.stderr
