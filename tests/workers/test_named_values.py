"""An objective gets the values that names stand for, also those that were added after its worker had started."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from queue_work import plan_text
from study_files import sqlite

from search.storage.connect import open_database
from search.study.user_modules import extend_sys_path
from search.workers.setup import open_worker

OBJECTIVE = """
import json
def loss(params, seed):
    with open({path!r}, "a") as file:
        file.write(json.dumps(params) + "\\n")
    given, params["hidden"] = params["hidden"], 0
    return float(len(json.dumps(given)))
"""
STUDY = """
objective = "named_values_objective:loss"
[grid]
hidden = { values = { none = "null", small = [64] } }
"""


@pytest.mark.timeout(60)
def test_values_of_names(tmp_path: Path) -> None:
    got = tmp_path / "got.jsonl"
    (tmp_path / "named_values_objective.py").write_text(OBJECTIVE.format(path=str(got)))
    extend_sys_path(tmp_path)
    with open_database(sqlite(tmp_path), create=True).closing() as database:
        plan_text(database, tmp_path, STUDY)
        make = partial(open_worker, "s", sqlite(tmp_path), "cpu", out=tmp_path / "out", modules=tmp_path)
        first, late = make(), make()
        assert first.run()
        plan_text(database, tmp_path, STUDY.replace("[64] }", "[64], deep = [[1, 2], { a = 1 }] }"))
        assert late.run()
        for worker in (first, late):
            worker.queue.database.engine.dispose()
    assert [json.loads(line)["hidden"] for line in got.read_text().splitlines()] == [None, [64], [[1, 2], {"a": 1}]]
