"""Claims of a study file: what is refused, and what a narrowed grid leaves of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.errors import UsageError
from search.statistics.answers import Verdict
from search.statistics.losses import Losses
from search.statistics.verdicts import decide
from search.study.definition import load_definition

HEAD = """
[grid]
model = ["bigram_v2"]
n_embd = [64, 128]
pe_type = ["sinpe", "rope"]

[[baselines]]
model = "bigram"
block_size = 8

[[claims]]
"""


def study_file(folder: Path, claim: str, head: str = HEAD) -> str:
    file = folder / "study.toml"
    file.write_text(head + claim, encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (
            'factor = "n_embed"\norder = [64, 128]',
            r"claims\.0\.factor = 'n_embed' is not an axis; choices: model, n_embd, pe",
        ),
        ('factor = "n_embd"\norder = [64, 256]', r"claims\.0: 256 is not a value of n_embd; choices: 64, 128"),
        ('factor = "n_embd"\nnot_always = [64, 1]', r"claims\.0: 1 is not a value of n_embd; choices: 64, 128"),
        ('factor = "n_embd"\norder = [64]', r"order = \[64\]; give two or more values"),
        ('factor = "n_embd"\norder = [64, 64]', r"order = \[64, 64\]; give each value once"),
        ('factor = "n_embd"', r"give exactly one of order, not_always and cells"),
        ("order = [64, 128]", r"needs a factor"),
        (
            'factor = "n_embd"\norder = [64, 128]\nnot_always = [64, 128]',
            r"give exactly one of order, not_always and cells",
        ),
        ('factor = "n_embd"\nordr = [64, 128]', r"unknown key 'claims\.0\.ordr' \(did you mean 'order'\?\)"),
        (
            'cells = [{ model = "bigram", block_size = 8 }, { model = "bigram" }]',
            r"is neither a cell of the grid.*nor a baseline; baselines: .*'block_size': 8",
        ),
        (
            'cells = [{ model = "bigram", block_size = 8 }, { model = "bigram_v2", n_embd = 1, pe_type = "rope" }]',
            r"claims\.0: 1 is not a value of n_embd; choices: 64, 128",
        ),
    ],
)
def test_a_wrong_claim_is_one_line(tmp_path: Path, claim: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_definition(study_file(tmp_path, claim))
    assert "\n" not in str(caught.value)


def test_claims_that_are_no_list(tmp_path: Path) -> None:
    file = study_file(tmp_path, 'factor = "n_embd"', HEAD.replace("[[claims]]", "[claims]"))
    with pytest.raises(UsageError, match=r"write \[\[claims\]\] above the keys of each"):
        load_definition(file)


def test_a_claim_whose_value_a_setting_takes_away_is_answered(tmp_path: Path) -> None:
    file = study_file(tmp_path, 'factor = "n_embd"\norder = [64, 128]')
    claims = load_definition(file, ["n_embd=128"]).claims
    losses = Losses.of(
        ({"n_embd": 128, "pe_type": pe}, seed, 2.0 + seed / 100) for pe in ("sinpe", "rope") for seed in (1, 2)
    )
    [answer] = decide(losses, losses, claims).answers
    assert answer.verdict is Verdict.NOT_ANSWERABLE
    assert "64 is not a value of n_embd in this study" in answer.sentence
