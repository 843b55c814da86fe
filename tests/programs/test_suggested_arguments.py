"""The arguments that a study remembers, for the commands that a report suggests."""

from __future__ import annotations

from pathlib import Path

from study_files import sqlite

from search.options import PlanningOptions
from search.planning import open_planned
from search.study.stored import read_stored_study

STUDY = """
objective = "mine:one"

[grid]
a = [1, 2]
"""


def test_they_say_where_files_are(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(STUDY)
    (tmp_path / "mine.py").write_text("def one(params, seed):\n    return params['a']\n")
    file, out = str(tmp_path / "mine.toml"), tmp_path / "there"
    options = PlanningOptions(study=file, storage=sqlite(tmp_path), out=out, artifacts="s3://bucket/prefix")
    database, _ = open_planned(options)
    with database.closing():
        stored = read_stored_study(database, "mine")
    assert stored is not None
    assert stored.arguments == ["--study", file, "--out", str(out), "--artifacts", "s3://bucket/prefix"]
