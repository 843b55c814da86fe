"""A planned study written as a file is read as the same study."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished_studies import GRID, completed, ended_study, nothing
from study_files import write_study

from search.reporting.report_data import read_report_data
from search.study.definition import load_definition

ODD = """
description = 'Quotes " and \\ and a line'
objective = "fake_objective:start"
seeds = 2

[grid]
learning_rate = [1e-7, 0.5]
n_embd = [64, 1_000_000]
flag = [true, false]
note = ["a \\"b\\"", "é\\u007f"]

[pruner]
name = "median"
min_trials = 9
"""


SAMPLED = """
objective = "fake_objective:start"
sampler = { name = "tpe", n_startup_trials = 4 }
trials = 5
seeds = 2
first_seed = 3

[axes]
n_embd = [8, 16]
learning_rate = { low = 1e-4, high = 1.0, log = true }
depth = { low = 1, high = 9, step = 2 }
"""

RACING = """
objective = "fake_objective:start"
seeds = "auto"

[grid]
n_embd = [8, 16]

[auto_seeds]
first = 2
max_seeds = 7
"""


SPACES = """
objective = "fake_objective:start"
seeds = 2
exclude = [{ model = "gpt", n_embd = [48, 64] }]
enqueue = [{ model = "rnn", n_embd = 96, hidden = "none" }]

[grid]
model = ["gpt", "rnn"]
n_head = { values = [2, 4], when = { model = "gpt" } }
n_embd = [48, 64, 80]
hidden = { values = { none = "null", "a b" = [256, [1, "null"]], table = { x = 1.5 } } }
mixed = { values = [1, "two"], named = { two = [2, "null"] }, when = { n_head = 4 } }
lists = { values = [[1], [2, 3]], when = { hidden = ["none", "table"], model = "gpt" } }
"""
SAMPLED_SPACES = """
objective = "fake_objective:start"
sampler = "random"
trials = 5
seeds = 2
exclude = [{ opt = "sgd", depth = 1 }]
enqueue = [{ opt = "adam", depth = 3 }]

[axes]
opt = ["adam", "sgd"]
momentum = { low = 0.5, high = 0.9, when = { opt = "sgd", depth = [5, 7] } }
depth = { low = 1, high = 9, step = 2 }
"""


@pytest.mark.parametrize("text", [GRID, ODD, SAMPLED, RACING, SPACES, SAMPLED_SPACES])
def test_round_trip(text: str, tmp_path: Path) -> None:
    with ended_study(tmp_path, completed if text is GRID else nothing, seeds=2, study=text) as database:
        names = ["small", *(["small-baselines"] if text is GRID else [])]
        written = read_report_data(database, names, with_trials=True).study_file()
    (tmp_path / "again").mkdir()
    again = load_definition(write_study(tmp_path / "again", written))
    assert again == load_definition(write_study(tmp_path, text)).model_copy(update={"seeds": 2})


def test_built_in_study(tmp_path: Path) -> None:
    definition = load_definition("bigram")
    from search.objectives.corpus import encode
    from search.storage.connect import open_database
    from search.study.planner import Study, ensure_planned

    with open_database(f"sqlite:///{tmp_path}/search.db", create=True).closing() as database:
        study = Study(definition, "bigram", encode("text", "to be or not to be"))
        ensure_planned(database, study)
        written = read_report_data(database, study.names, with_trials=True).study_file()
    assert load_definition(write_study(tmp_path, written, "bigram")) == definition
