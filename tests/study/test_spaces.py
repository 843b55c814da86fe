"""Spaces as people have them: conditions, values by name, excluded cells, cells that are trained first."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_files import write_study

from search.errors import UsageError
from search.objectives.corpus import encode
from search.objectives.errors import ObjectiveError
from search.reporting.toml_export import as_toml
from search.storage.values import canonical
from search.study.axis_tables import without_none
from search.study.cell_checks import check_cells
from search.study.cells import objective_values
from search.study.definition import StudyDefinition, load_definition
from search.study.planner import Study, edge_cells, study_plans
from search.study.space import Space

MODELS = """
objective = "fake_objective:start"

[grid]
model = ["gpt", "rnn", "mlp"]
n_head = { values = [2, 4], when = { model = "gpt" } }
n_embd = [64, 128]
cell = { values = ["gru", "lstm"], when = { model = "rnn" } }
bias = { values = [true, false], when = { cell = "gru", n_embd = [128] } }
"""


def load(folder: Path, text: str, *settings: Any) -> StudyDefinition:
    return load_definition(write_study(folder, text), settings)


def test_grid_with_conditions_has_each_distinct_cell_once(tmp_path: Path) -> None:
    cells = load(tmp_path, MODELS).cells
    gpt = [{"model": "gpt", "n_head": h, "n_embd": e} for h in (2, 4) for e in (64, 128)]
    rnn = [
        {"model": "rnn", "n_embd": 64, "cell": "gru"},
        {"model": "rnn", "n_embd": 64, "cell": "lstm"},
        {"model": "rnn", "n_embd": 128, "cell": "gru", "bias": True},
        {"model": "rnn", "n_embd": 128, "cell": "gru", "bias": False},
        {"model": "rnn", "n_embd": 128, "cell": "lstm"},
    ]
    assert cells == [*gpt, *rnn, {"model": "mlp", "n_embd": 64}, {"model": "mlp", "n_embd": 128}]
    assert [list(cell) for cell in cells][-3] == ["model", "n_embd", "cell"]


def test_condition_may_name_an_axis_that_comes_later(tmp_path: Path) -> None:
    text = '[grid]\nn_head = { values = [2, 4], when = { model = "gpt" } }\nmodel = ["gpt", "rnn"]\n'
    assert load(tmp_path, text).cells == [
        {"model": "rnn"},
        {"n_head": 2, "model": "gpt"},
        {"n_head": 4, "model": "gpt"},
    ]


@given(st.data())
def test_expansion_is_what_a_product_of_all_axes_leaves(data: st.DataObject) -> None:
    lists = {f"a{i}": list(range(data.draw(st.integers(1, 3)))) for i in range(data.draw(st.integers(1, 4)))}
    names = list(lists)
    rank = data.draw(st.permutations(names))
    subset = st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True)
    when = {
        axis: data.draw(st.dictionaries(st.sampled_from(rank[:place]), subset, min_size=1, max_size=2))
        for place, axis in enumerate(rank)
        if place and data.draw(st.booleans())
    }
    exclude = data.draw(st.lists(st.dictionaries(st.sampled_from(names), subset, min_size=1, max_size=2), max_size=2))
    space = Space(lists, {}, when, exclude)
    expected = {}
    for values in itertools.product(*lists.values()):
        cell = dict(zip(names, values, strict=True))
        while gone := [a for a in cell if any(cell.get(o) not in vs for o, vs in when.get(a, {}).items())]:
            for axis in gone:
                del cell[axis]
        if not any(all(cell.get(a) in vs for a, vs in entry.items()) for entry in exclude):
            expected[canonical(cell)] = cell
    if not expected:
        with pytest.raises(ValueError, match="exclude leaves no cell"):
            space.cells()
        return
    cells = space.cells()
    assert len(cells) == len(expected)
    assert {canonical(cell) for cell in cells} == set(expected)
    assert all(space.fault_of(cell) is None for cell in cells)
    assert all(list(cell) == [axis for axis in names if axis in cell] for cell in cells)


NAMED = """
objective = "fake_objective:start"
[grid]
hidden = { values = { none = "null", small = [64], big = [256, [1, "null"]], table = { a = 1 } } }
dropout = [0.0, 0.5]
"""


def test_values_by_name_reach_the_objective_unchanged(tmp_path: Path) -> None:
    study = load(tmp_path, NAMED)
    assert study.grid["hidden"] == ["none", "small", "big", "table"]
    values = [objective_values(cell, study.named)["hidden"] for cell in study.cells[::2]]
    assert values == [None, [64], [256, [1, None]], {"a": 1}]
    [plan] = study_plans(Study(study, "s", None))
    assert [json.loads(trial.cell)["hidden"] for trial in plan.trials][::2] == study.grid["hidden"]
    assert plan.definition["named"]["hidden"]["none"] is None
    values[1].append(3)
    assert study.named["hidden"]["small"] == [64]


def test_python_values_get_names(tmp_path: Path) -> None:
    hidden = [None, [64], (256, 256), {"a": [1]}, 5]
    study = load(tmp_path, NAMED, ("dropout", [0.0]), ("hidden", {"values": hidden}))
    assert study.grid["hidden"] == ["none", "[64]", "[256,256]", '{"a":[1]}', 5]
    assert [objective_values(cell, study.named)["hidden"] for cell in study.cells] == [
        *[None, [64], [256, 256], {"a": [1]}],
        5,
    ]


def test_set_chooses_among_names_and_keeps_conditions(tmp_path: Path) -> None:
    assert load(tmp_path, NAMED, "hidden=small,none").named == {"hidden": {"small": [64], "none": None}}
    with pytest.raises(UsageError, match="--set hidden=tiny: tiny is not the name of a value; choices: none, small"):
        load(tmp_path, NAMED, "hidden=tiny")
    narrowed = load(tmp_path, MODELS, "n_head=8", "model=gpt,mlp")
    assert narrowed.grid["n_head"] == [8]
    assert [cell.get("n_head") for cell in narrowed.cells] == [8, 8, None, None]


def test_excluded_cells_are_left_out(tmp_path: Path) -> None:
    text = 'exclude = [{ model = "gpt", n_embd = 128 }, { cell = ["gru", "lstm"], n_embd = 64 }]\n' + MODELS
    cells = load(tmp_path, text).cells
    assert len(cells) == 11 - 2 - 2
    assert not [cell for cell in cells if cell["model"] == "gpt" and cell["n_embd"] == 128]


def test_enqueued_cells_join_a_grid_and_come_first(tmp_path: Path) -> None:
    text = "enqueue = [{ a = 48, b = 1 }, { a = 3 }]\nseeds = 2\n[grid]\na = [1, 2, 3]\nb = 1\n"
    study = load(tmp_path, text)
    assert study.cells == [{"a": a, "b": 1} for a in (1, 2, 3, 48)]
    [plan] = study_plans(Study(study, "s", None))
    first = sorted(plan.trials, key=lambda trial: trial.priority)
    assert [json.loads(trial.cell) for trial in first][:2] == [
        {"a": 48, "b": 1, "seed": 1337},
        {"a": 3, "b": 1, "seed": 1337},
    ]
    assert [json.loads(trial.cell)["seed"] for trial in first] == [1337] * 4 + [1338] * 4


def test_edge_cells_have_every_value_where_it_applies(tmp_path: Path) -> None:
    text = """
objective = "fake_objective:start"
sampler = "random"
trials = 3
exclude = [{ model = "gpt", opt = "sgd" }]
[axes]
model = ["gpt", "rnn"]
opt = ["adam", "sgd"]
momentum = { low = 0.5, high = 0.9, when = { opt = "sgd", model = "rnn" } }
nesterov = { values = [true, false], when = { momentum_on = 1 } }
momentum_on = { low = 0, high = 1, when = { opt = "sgd" } }
"""
    study = load(tmp_path, text)
    cells = edge_cells(study)
    for axis, values in (("model", {"gpt", "rnn"}), ("opt", {"adam", "sgd"}), ("momentum", {0.5, 0.9})):
        assert {cell[axis] for cell in cells if axis in cell} == values
    assert all(study.space.fault_of(cell) is None and not study.space.is_excluded(cell) for cell in cells)


HEAD = 'sampler = "tpe"\ntrials = 3\n'
FAULTS = {
    "unknown axis": (
        "[grid]\nmodel = [1, 2]\nb = { values = [1], when = { modle = 1 } }",
        "the axis b: when.modle is not an axis (did you mean 'model'?); choices: model, b",
    ),
    "value that the axis lacks": (
        '[grid]\nmodel = ["gpt", "rnn"]\nb = { values = [1], when = { model = "gtp" } }',
        "the axis b: when: model = 'gtp' is not one of its values: gpt, rnn",
    ),
    "circle": (
        "[grid]\nc = 1\na = { values = [1], when = { b = 1 } }\nb = { values = [1], when = { a = 1 } }",
        "the axes a, b have conditions that depend on each other in a circle; remove one when",
    ),
    "itself": (
        "[grid]\nb = { values = [1], when = { b = 1 } }",
        "the axes b have conditions that depend on each other",
    ),
    "no table": (
        "[grid]\na = 1\nb = { values = [1], when = 3 }",
        'the axis b: when = 3: write when = { model = "gpt" }',
    ),
    "empty condition": ("[grid]\na = 1\nb = { values = [1], when = {} }", "the axis b: when = {}: write when ="),
    "empty list": ("[grid]\na = 1\nb = { values = [1], when = { a = [] } }", "when.a is empty; give it at least one"),
    "when at the top": ("when = { a = 1 }\n[grid]\na = 1", "when is part of an axis: write n_head = { values = [2, 4]"),
    "neither values nor range": ("[grid]\na = { vals = [1] }", "the axis a = {'vals': [1]} has neither values nor low"),
    "values and more": (
        "[grid]\na = { values = [1], low = 2 }",
        "the axis a has values and low; beside values it takes",
    ),
    "real numbers": (
        HEAD + "[axes]\nlr = { low = 0.1, high = 1.0 }\nb = { values = [1], when = { lr = 0.5 } }",
        "the axis b: when.lr: lr is a range of real numbers; a condition needs a list or integers",
    ),
    "outside the range": (
        HEAD + "[axes]\nn = { low = 1, high = 5, step = 2 }\nb = { values = [1], when = { n = 2 } }",
        "the axis b: when: n = 2 is outside its range, 1 to 5 in steps of 2",
    ),
    "excluded unknown axis": ("exclude = [{ n = 1 }]\n[grid]\nm = 1", "exclude.0.n is not an axis"),
    "excluded unknown value": ("exclude = [{ m = [1, 3] }]\n[grid]\nm = [1, 2]", "exclude.0: m = 3 is not one of its"),
    "nothing excluded": ("exclude = [{}]\n[grid]\nm = [1, 2]", "exclude.0 is empty; write the values"),
    "all excluded": ("exclude = [{ m = [1, 2] }]\n[grid]\nm = [1, 2]", "exclude leaves no cell; remove an entry of it"),
    "enqueued unknown axis": ("enqueue = [{ n = 1 }]\n[grid]\nm = 1", "enqueue.0 = {'n': 1}: n is not an axis"),
    "enqueued lacks": ("enqueue = [{ m = 1 }]\n[grid]\nm = [1, 2]\nn = [1, 2]", "enqueue.0 = {'m': 1}: n is missing"),
    "enqueued twice": (
        "enqueue = [{ m = 1 }, { m = 1.0, n = 1 }]\n[grid]\nm = [1, 2]\nn = 1",
        "occurs twice; remove one",
    ),
    "enqueued does not apply": (
        "enqueue = [{ m = 1, n = 1 }]\n[grid]\nm = [1, 2]\nn = { values = [1], when = { m = 2 } }",
        "enqueue.0 = {'m': 1, 'n': 1}: n does not apply: it needs m = 2",
    ),
    "enqueued outside": (
        HEAD + "enqueue = [{ n = 9 }]\n[axes]\nn = { low = 1, high = 5 }",
        "enqueue.0 = {'n': 9}: n = 9 is outside its range, 1 to 5",
    ),
    "enqueued name": (
        'enqueue = [{ h = "x" }]\n[grid]\nh = { values = { a = [1] } }',
        "h = 'x' is not one of its values: a",
    ),
    "more enqueued than trials": (
        'sampler = "tpe"\ntrials = 1\nenqueue = [{ n = 1 }, { n = 2 }]\n[axes]\nn = { low = 1, high = 5 }',
        "enqueue has 2 cells, and trials = 1; raise trials",
    ),
    "named value that is no JSON": (
        "[grid]\nh = { values = { a = nan } }",
        "the axis h: the value of 'a' = nan cannot be",
    ),
    "named that is no value": ("[grid]\nh = { values = [1], named = { a = [1] } }", "named.a is not one of its values"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_a_space(tmp_path: Path, fault: str) -> None:
    text, said = FAULTS[fault]
    with pytest.raises(UsageError) as raised:
        load(tmp_path, text)
    message = str(raised.value)
    assert said in message
    assert "\n" not in message


def test_studies_without_any_of_this_are_stored_as_before() -> None:
    [grid, _] = study_plans(Study(load_definition("bigram"), "bigram", None))
    assert list(grid.definition) == ["grid", "objective", "training", "corpus_sha256"]
    [tuned, *_] = study_plans(Study(load_definition("bigram-tuned"), "tuned", None))
    assert list(tuned.definition) == ["grid", "axes", "sampler", "first_seed", "objective", "training", "corpus_sha256"]


def test_too_many_cells_are_counted_before_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.study.space.MAX_POINTS", 1_000)  # of the 134 million below
    axes = "".join(f"a{i} = [1, 2, 3, 4, 5, 6, 7, 8]\n" for i in range(9))
    with pytest.raises(UsageError, match="the grid has more than 1000 cells; give fewer values"):
        load(tmp_path, f"exclude = [{{ a0 = 1, a8 = 1 }}]\n[grid]\n{axes}")


def test_dictionaries_with_none_become_the_same_study(tmp_path: Path) -> None:
    grid = {
        "model": ["gpt", "rnn"],
        "hidden": [None, [64], [256, [1, None]]],
        "size": {"values": {"no": None, "some": [1]}, "when": {"hidden": [None, [64]]}},
        "one": {"values": [1, None], "when": {"hidden": "[64]", "model": "rnn"}},
        "none": None,
    }
    content = without_none({"grid": grid, "exclude": [{"hidden": None, "model": "gpt"}]})
    study = load(tmp_path, 'objective = "fake_objective:start"\n' + as_toml(content))
    assert study == StudyDefinition.model_validate(
        {
            "name": "small",
            "objective": "fake_objective:start",
            "grid": grid,
            "exclude": [{"hidden": None, "model": "gpt"}],
        }
    )
    values = [objective_values(cell, study.named) for cell in study.cells]
    assert {"model": "rnn", "hidden": None, "size": None, "none": None} in values
    assert {"model": "rnn", "hidden": [64], "size": [1], "one": None, "none": None} in values
    assert {"model": "gpt", "hidden": [256, [1, None]], "none": None} in values


def test_an_axis_of_one_model_alone_gets_a_line_to_paste(tmp_path: Path) -> None:
    text = '[grid]\nmodel = ["bigram", "bigram_mf", "bigram_v2"]\nblock_size = 8\nn_embd = [16, 32]\n'
    corpus = encode("text", "to be or not to be, that is the question. " * 20)
    with pytest.raises(ObjectiveError) as raised:
        check_cells(Study(load(tmp_path, text), "s", corpus))
    line = 'n_embd = { values = [16, 32], when = { model = ["bigram_mf", "bigram_v2"] } }'
    assert str(raised.value).endswith(f"an axis can be given to some models only: {line}")
    pasted = text.replace("n_embd = [16, 32]", line)
    pasted += 'pe_type = { values = ["sinpe"], when = { model = "bigram_v2" } }\n'
    study = load(tmp_path, pasted)
    check_cells(Study(study, "s", corpus))
    assert [cell["model"] for cell in study.cells] == ["bigram", *["bigram_mf"] * 2, *["bigram_v2"] * 2]
