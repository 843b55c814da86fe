"""docs/reliability.md names every kind of fault once, and tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
KINDS = {"A": 12, "B": 20, "C": 11, "D": 6}
ROW = re.compile(r"^\| (?P<kind>[A-D]\d+) \| (?P<promise>.+?) \| (?P<tests>.+?) \| (?P<outcome>.+?) \|$", re.MULTILINE)


def names_in(file: Path) -> set[str]:
    """The tests of a file, those of classes as `Class::test`."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return names


def missing(named: str) -> list[str]:
    """The tests of one row, as `folder/file.py::test`, that do not exist; a name alone is of the file before it."""
    gone, file = [], Path()
    for text in re.findall(r"`([^`]+)`", named):
        path, _, test = text.partition("::")
        file = ROOT / "tests" / path if path else file
        if not file.is_file() or (test and test not in names_in(file)):
            gone.append(text)
    return gone


def test_every_kind_and_every_test_is_there() -> None:
    rows = list(ROW.finditer(PAGE.read_text(encoding="utf-8")))
    found = {row["kind"] for row in rows}
    assert found == {f"{letter}{number}" for letter, count in KINDS.items() for number in range(1, count + 1)}
    gone = {row["kind"]: missing(row["tests"]) for row in rows if missing(row["tests"])}
    assert gone == {}
    assert [row["kind"] for row in rows if "`" not in row["tests"] and "later" not in row["outcome"]] == []


def test_a_wrong_name_is_found() -> None:
    assert missing("`docs/test_reliability_page.py::test_a_wrong_name_is_found`, `::test_nothing`") == [
        "::test_nothing"
    ]
    assert missing("`docs/no_such_file.py`") == ["docs/no_such_file.py"]
