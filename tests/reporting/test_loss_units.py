"""Losses of language models in bits and as perplexity, wherever they are shown, per character, byte or token."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_studies import CORPUS, GRID, End, ended_study

from search.objectives.corpus import Corpus, encode, load_corpus
from search.reporting.progress import Snapshot, summary_line
from search.reporting.render import render
from search.reporting.study_result import StudyResult
from search.statistics.ranking import ranked_rows
from search.storage.database import Database
from search.storage.url import display_url
from search.study.stored import read_stored_study
from search.study.text_unit import CHARACTERS, TextUnit, perplexity_text

LM = """
[grid]
model = ["bigram_v2"]
block_size = [8]
n_embd = [8, 16]

[training]
max_iters = 20
eval_interval = 10
eval_tokens = 50
"""
IDS = np.random.default_rng(0).integers(0, 9, 300)


def ended(cell: Mapping[str, Any]) -> End | None:
    return End("complete", {0: 3.0, 20: 2.0 if cell["n_embd"] == 16 else 2.5})


def corpus_of(folder: Path, kind: str) -> Corpus:
    if kind == "character":
        return encode("text", CORPUS)
    if kind == "byte":
        path = folder / "text.txt"
        path.write_text(CORPUS)
        return load_corpus(Path(f"bytes:{path}"))
    (folder / "ids").mkdir()
    np.save(folder / "ids" / "train.npy", IDS)
    np.save(folder / "ids" / "val.npy", IDS)
    if kind == "piece":
        (folder / "ids" / "meta.json").write_text(json.dumps({"characters": ["four"] * 9}))
    return load_corpus(folder / "ids")


UNITS = {
    "character": ("character", "bits/char", "bits_per_character", 1),
    "byte": ("byte", "bits/byte", "bits_per_byte", 1),
    "token": ("token", "bits/token", "bits_per_token", 1),
    "piece": ("token", "bits/byte", "bits_per_byte", 4),
}


@pytest.mark.parametrize("kind", UNITS)
def test_every_format(tmp_path: Path, kind: str) -> None:
    name, title, key, bytes_each = UNITS[kind]
    bits, perplexity = 2.0 / math.log(2) / bytes_each, math.exp(2.0)
    per = key.replace("_", " ")
    with ended_study(tmp_path, ended, study=LM, corpus=corpus_of(tmp_path, kind)) as database:
        formats = {each: render(database, ["small"], each) for each in ("markdown", "csv", "latex", "html", "json")}
        words = f" nats per {name} (3 seeds); {bits:.4f} {per}, perplexity {perplexity:.3f}"
        for each in ("markdown", "html"):
            assert words in formats[each], each
        assert words in formats["latex"]
        assert f"Losses are means over the trials of a cell, in nats per {name}" in formats["markdown"]
        heading, _, best, *_ = [line for line in formats["markdown"].splitlines() if line.startswith("|")]
        titles, texts = ([each.strip() for each in line.split("|")] for line in (heading, best))
        assert dict(zip(titles, texts, strict=True)).items() >= {title: f"{bits:.5f}", "perplexity": "7.389"}.items()
        assert titles.index("val_loss") < titles.index(title) < titles.index("perplexity")
        row = next(csv.DictReader(io.StringIO(formats["csv"])))
        assert (float(row[key]), float(row["perplexity"])) == pytest.approx((bits, perplexity))
        facts = json.loads(formats["json"])
        assert (facts["rows"][0][key], facts["rows"][0]["perplexity"]) == pytest.approx((bits, perplexity))
        assert words in facts["best"]
        assert f"position, {name}s" in formats["html"]
        chosen = render(database, ["small"], "csv", columns=["bits", key, "perplexity"])
        assert [float(each) for each in chosen.splitlines()[1].split(",")] == pytest.approx([bits, bits, perplexity])
        if kind != "token":  # fewer than 4,096 ids, so pairs were counted
            assert f"which counts {name} pairs" in formats["markdown"]
        check_result(database, key, bits, perplexity)
        check_progress(database, f"best 2.0000 = {bits:.4f} {title} (")


def check_result(database: Database, key: str, bits: float, perplexity: float) -> None:
    url = display_url(database.engine.url)
    result = StudyResult("small", url, ranked_rows(database, ["small"]), {}, 0.0, 0)
    best = result.best
    assert best is not None
    assert (best.bits, best.perplexity) == pytest.approx((bits, perplexity))
    frame = result.to_dataframe()
    assert frame[key].min() == pytest.approx(bits)
    assert frame["perplexity"].min() == pytest.approx(perplexity)


def check_progress(database: Database, text: str) -> None:
    stored = read_stored_study(database, "small")
    assert stored is not None
    assert text in summary_line(Snapshot(database, ["small"], loss_unit=stored.loss_unit), 1)


def test_other_objectives_have_none(tmp_path: Path) -> None:
    with ended_study(tmp_path, lambda cell: End("complete", {40: 2.0}), study=GRID) as database:
        text = render(database, ["small"], "markdown")
        assert "perplexity" not in text
        assert "perplexity" not in render(database, ["small"], "json")
        stored = read_stored_study(database, "small")
        assert stored is not None
        assert stored.text_unit == CHARACTERS


def test_a_huge_loss_has_a_perplexity() -> None:
    assert TextUnit().as_perplexity(1e6) == math.inf
    assert [perplexity_text(each) for each in (9.9712, 1234.5, 123456.0, None)] == ["9.971", "1234", "1.235e+05", ""]
