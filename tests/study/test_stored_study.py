"""A study is read from its JSON in one place; everywhere else it is typed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from study_files import sqlite, write_study

import search
from search.errors import UsageError
from search.objectives.corpus import encode
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.queries import study_attrs
from search.study.definition import load_definition
from search.study.planner import Study, ensure_planned, study_plans
from search.study.stored import StoredStudy, parse_study, planned_study, read_stored_study
from search.study.trial_facts import TrialFacts, trial_facts
from search.study.warm_starts import WarmStart

PACKAGE = Path(search.__file__).parent
# What bears stored JSON, or a part of it: no literal key may be looked up in anything of these names.
JSON_NAMES = {
    *("attrs", "user_attrs", "study_attrs", "trial_attrs", "stored", "as_stored", "definition", "settings", "training"),
    *("sampler", "published", "claims", "claim", "rules", "pruner", "workers", "record", "recorded", "facts"),
    *("origin", "warm_start", "observation", "observations", "best", "source", "theirs", "mine", "plan"),
}
# The module that types it.
TYPING = {"study/stored.py", "study/stored_settings.py", "study/warm_starts.py"}


def literal_lookups(source: str) -> list[str]:
    """The expressions x["key"] and x.get("key") in which x, or what it is looked up in, bears stored JSON."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            looked_in, key = node.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            looked_in, key = node.func.value, node.args[0] if node.args else node
        else:
            continue
        if isinstance(key, ast.Constant) and isinstance(key.value, str) and _names(looked_in) & JSON_NAMES:
            found.append(ast.unparse(node))
    return found


def _names(node: ast.expr) -> set[str]:
    """All names on the way to what an expression looks into: a, attrs and b of `a.attrs["x"].b`."""
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, ast.Attribute):
        return {node.attr} | _names(node.value)
    if isinstance(node, ast.Subscript):
        return _names(node.value)
    if isinstance(node, ast.Call):
        return _names(node.func.value if isinstance(node.func, ast.Attribute) else node.func)
    if isinstance(node, ast.BoolOp):
        return set().union(*(_names(value) for value in node.values))
    return set()


@pytest.mark.parametrize(
    "line",
    [
        'attrs["definition"]["grid"]',
        'past.attrs["definition"]',
        'definition.get("sampler", {}).get("name")',
        '(study_attrs(database, name) or {}).get("claims")',
        'stored.definition.as_stored["grid"]',
        'run.attrs["train_seconds"]',
        'settings["pruner"]',
    ],
)
def test_a_lookup_is_noticed(line: str) -> None:
    assert literal_lookups(f"x = {line}")


def test_no_literal_key_is_looked_up_in_stored_json() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}: {lookup}"
        for path in PACKAGE.rglob("*.py")
        # storage/ moves JSON without looking into it, but for its own two keys; objectives see no database.
        if not path.relative_to(PACKAGE).as_posix().startswith(("storage/", "objectives/", "models/"))
        and path.relative_to(PACKAGE).as_posix() not in TYPING
        for lookup in literal_lookups(path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED


# Not stored JSON: what a worker is about to write, and a study file's content.
ALLOWED = {
    "study/search_space.py: rules.get('first')",
    "strategies/samplers.py: settings.arguments['seed']",
    "workers/artifact_writer.py: facts.get('sample')",
    "workers/artifact_writer.py: facts['sample']",
}


def test_a_template_sees_the_typed_study() -> None:
    for path in PACKAGE.rglob("*.jinja"):
        assert not re.findall(r"\battrs\b|as_stored", path.read_text(encoding="utf-8")), path


def test_sqlalchemy_stays_in_storage() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] == "storage":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] in ("sqlalchemy", "alembic")], path


STUDY = """
description = "Everything that can be stored"
sampler = { name = "tpe", n_startup_trials = 2 }
trials = 3
first_seed = 7
corpus = "text.txt"

[grid]
model = ["bigram_v2"]
block_size = [8]

[axes]
n_embd = { low = 8, high = 24, step = 8 }

[pruner]
name = "none"

[workers]
lease_s = 3

[[published]]
cell = { model = "bigram_v2", block_size = 8, n_embd = 8 }
val_loss = 1.5
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    definition = load_definition(write_study(tmp_path, STUDY))
    return Study(definition, "small", encode("text.txt", "to be or not to be"))


def stored_in(tmp_path: Path, study: Study) -> tuple[StoredStudy, StoredStudy]:
    """The study as it is read, and as its plan says."""
    with open_database(sqlite(tmp_path), create=True).closing() as database:
        ensure_planned(database, study)
        stored = read_stored_study(database, "small")
    assert stored is not None
    return stored, planned_study(study_plans(study)[0])


def test_what_was_planned_is_read(study: Study, tmp_path: Path) -> None:
    stored, planned = stored_in(tmp_path, study)
    definition = study.definition
    assert (stored.description, stored.corpus, stored.first_seed) == (definition.description, "text.txt", 7)
    assert (stored.trials, stored.seeds, stored.warm_start) == (3, 1, None)
    assert stored.bigram_baseline == pytest.approx(2.0, abs=1.0)
    assert (stored.definition.objective, stored.definition.grid) == (definition.objective, definition.grid)
    assert (stored.definition.axes, stored.definition.sampler) == (definition.axes, definition.sampler)
    assert (stored.definition.training, stored.definition.models) == (definition.training, ["bigram_v2"])
    assert (stored.settings.pruner, stored.settings.workers) == (definition.pruner, definition.workers)
    assert stored.published == definition.published
    assert (len(stored.uid), planned.uid) == (32, "")
    assert planned.definition.as_stored == stored.definition.as_stored


def test_a_study_that_was_not_planned_is_none(database: Database) -> None:
    assert read_stored_study(database, "absent") is None


def test_what_a_newer_version_wrote_is_refused_in_one_line(study: Study, tmp_path: Path) -> None:
    stored_in(tmp_path, study)
    with open_database(sqlite(tmp_path), create=False).closing() as database:
        attrs = study_attrs(database, "small")
    assert attrs is not None
    newer = {**attrs, "settings": {**attrs["settings"], "workers": {"speed": 3}}}
    with pytest.raises(UsageError, match=r"^the study 'small' in the database has speed = 3, .*; update with: pip"):
        parse_study("small", newer)


def test_a_warm_start_comes_back() -> None:
    attribute = {
        "study": "source",
        "best": {"cell": {"x": 1}, "val_loss": 0.5},
        "observations": [{"cell": {"x": 2}, "val_loss": 0.75}],
    }
    found = parse_study("small", {"definition": {}, "from": attribute}).warm_start
    assert isinstance(found, WarmStart)
    assert found.as_attribute() == attribute


def test_facts_of_a_trial() -> None:
    facts = trial_facts({"n_params": 7, "record": {"device": "cuda", "torch": "2"}, "device": "cuda:1"})
    assert facts == TrialFacts(n_params=7, environment={"device": "cuda", "torch": "2"})
    assert (facts.device, TrialFacts().device) == ("cuda", None)
