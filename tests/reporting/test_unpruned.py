"""The warning about a pruner that gets nothing to judge."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

import pytest

from search.reporting.progress import Snapshot
from search.reporting.unpruned import IdlePruner
from search.study.definition import StudyDefinition

COMMAND = {"name": "s", "command": "t {x}", "grid": {"x": [1, 2]}}
FUNCTION = {"name": "s", "objective": "m:f", "grid": {"x": [1, 2]}}
THEIRS = {"name": "s", "objective": "m:f", "trials": 5}
PRUNER = {"pruner": {"name": "median"}}


def snapshot(*steps: int | None, states: str = "complete") -> Snapshot:
    return cast(Snapshot, SimpleNamespace(ended=[SimpleNamespace(state=states, step=step) for step in steps]))


@pytest.mark.parametrize(
    ("content", "seen", "is_last", "expected"),
    [
        (COMMAND | PRUNER, snapshot(1, 1, 1), False, "median has nothing to judge.* step=1 val_loss=0.5, or name"),
        (FUNCTION | PRUNER, snapshot(None, None, None), False, r"trial\.report\(value, step\)"),
        (FUNCTION | PRUNER, snapshot(None), True, r"nothing to judge"),
        (FUNCTION | PRUNER, snapshot(None, None), False, None),
        (FUNCTION | PRUNER, snapshot(None, None, 7), False, None),
        (FUNCTION | PRUNER, snapshot(None, None, None, states="failed"), True, None),
        (FUNCTION, snapshot(None, None, None), True, None),
        (THEIRS, snapshot(None, None, None), True, None),
        (THEIRS | PRUNER, snapshot(None, None, None), True, "nothing to judge"),
        (FUNCTION | {"pruner": {"name": "none"}}, snapshot(None, None, None), True, None),
        (THEIRS | {"pruner": {"name": "median", "metric": "value"}}, snapshot(None, None, None), True, None),
    ],
)
def test_warns_once(
    content: dict[str, Any], seen: Snapshot, is_last: bool, expected: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    look = IdlePruner(StudyDefinition.model_validate(content)).look
    for _ in range(2):
        look(seen, is_last=is_last)
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == (0 if expected is None else 1)
    assert expected is None or re.search(expected, warnings[0])
