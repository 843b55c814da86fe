"""Operations are counted as formulas written out by hand say, for every model."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from search.models.registry import GPT_PE_TYPES, PE_TYPES
from search.objectives.corpus import Corpus, encode
from search.objectives.language_model import flops
from search.objectives.language_model.flops import Flops, flops_of
from search.objectives.language_model.objective import start
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.settings import LanguageModelSettings
from search.study.corpus import read_corpus

CORPUS = encode("rhyme", "the cat sat on the mat,\nthe rat sat on the hat.\n" * 40)
V = CORPUS.vocab_size
BATCH = 64
SETTINGS = LanguageModelSettings(batch_size=BATCH, max_iters=6, eval_interval=3, sample_chars=10)

USERS_MODELS = """
import torch
from torch import nn

class Recurrent(nn.Module):
    def __init__(self, vocab_size, n_embd=16):
        super().__init__()
        self.table = nn.Embedding(vocab_size, n_embd)
        self.rnn = nn.LSTM(n_embd, n_embd, batch_first=True)
        self.head = nn.Linear(n_embd, vocab_size)

    def forward(self, idx):
        return self.head(self.rnn(self.table(idx))[0])

class Encoder(nn.Module):
    calls = 0

    def __init__(self, vocab_size, n_embd=16, n_layer=2):
        super().__init__()
        self.table = nn.Embedding(vocab_size, n_embd)
        layer = nn.TransformerEncoderLayer(n_embd, 2, 4 * n_embd, dropout=0.2, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, n_layer, enable_nested_tensor=False)
        self.head = nn.Linear(n_embd, vocab_size)

    def forward(self, idx, targets=None):
        self.calls += 1
        mask = nn.Transformer.generate_square_subsequent_mask(idx.shape[1])
        logits = self.head(self.layers(self.table(idx), mask=mask, is_causal=True))
        return logits, nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

class Tagged(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, idx):
        if idx.shape[0] > 1:
            raise ValueError("one window at a time")
        return self.table(idx)
"""


def begin(cell: dict[str, Any], settings: LanguageModelSettings = SETTINGS, text: Corpus = CORPUS) -> LanguageModelRun:
    return start(cell, 5, settings, text, "cpu")


def product(m: float, k: int, n: float) -> float:
    return 2.0 * m * k * n


def forward(cell: dict[str, Any], windows: int, T: int, text: Corpus = CORPUS) -> float:
    """The operations of one forward pass on so many windows of T ids."""
    V, C = text.vocab_size, int(cell.get("n_embd", 0))
    places = windows * T
    if cell["model"] == "bigram":
        return 0.0
    if cell["model"] == "bigram_mf":
        return product(min(V, places), C, V)
    if cell["model"] == "gpt":
        block = product(places, C, 3 * C) + product(places, C, C) + 2 * product(places, C, 4 * C)
        return int(cell["n_layer"]) * (block + 2 * product(places, C, T)) + product(places, C, V)
    average = windows * product(T, T, V)
    if cell["pe_type"] != "rope":
        return product(V + T, C, 3 * C) + product(V + T, C, V + T) + product(V + T, C, V) + average
    # A one is appended to x for the biases; rows are distinct pairs of a character and a position.
    shares = [count / len(text.train) for count in Counter(text.train.tolist()).values()]
    distinct = T * sum(1 - (1 - share) ** windows for share in shares)
    rows = max(distinct, min(384, places, V * T))
    folded = product(C + 1, C, C + 1) + product(V, C, C + 1)
    scores = windows * product(T, C + 1, T)
    return folded + product(rows, C + 1, C + 1) + product(rows, C + 1, V) + scores + average


def by_hand(cell: dict[str, Any], text: Corpus = CORPUS, settings: LanguageModelSettings = SETTINGS) -> Flops:
    T = cell["block_size"]
    full, rest = divmod(len(text.selection) - 1, T)
    most = 16_384 // T
    one_text = full // most * forward(cell, most, T, text) if full >= most else 0.0
    one_text += forward(cell, full % most, T, text) if full % most else 0.0
    one_text += forward(cell, 1, rest, text) if rest else 0.0
    batch = settings.batch_size
    return Flops(int(3 * forward(cell, batch, T, text)), int(2 * one_text))


CELLS = [
    {"model": "bigram", "block_size": 8},
    {"model": "bigram_mf", "block_size": 8, "n_embd": 24},
    *({"model": "bigram_v2", "block_size": 16, "n_embd": 24, "pe_type": each} for each in PE_TYPES),
    *({"model": "bigram_v2", "block_size": 64, "n_embd": 32, "pe_type": each} for each in PE_TYPES),
    *(
        {"model": "gpt", "block_size": 32, "n_layer": 2, "n_head": 2, "n_embd": 24, "pe_type": each}
        for each in GPT_PE_TYPES
    ),
]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: " ".join(map(str, cell.values())))
def test_operations_are_those_of_the_formula(cell: dict[str, Any]) -> None:
    counted, expected = flops_of(begin(cell)), by_hand(cell)
    assert counted is not None
    assert counted.step == pytest.approx(expected.step, rel=0.02)
    assert counted.evaluation == pytest.approx(expected.evaluation, rel=0.02)


@pytest.mark.parametrize("pe_type", PE_TYPES)
def test_operations_on_tiny_shakespeare(pe_type: str) -> None:
    text = read_corpus("language_model", None, None)
    assert text is not None
    cell = {"model": "bigram_v2", "block_size": 64, "n_embd": 64, "pe_type": pe_type}
    counted, expected = flops_of(begin(cell, text=text)), by_hand(cell, text)
    assert counted is not None
    assert counted.step == pytest.approx(expected.step, rel=0.02)
    assert counted.evaluation == pytest.approx(expected.evaluation, rel=0.02)


def test_shapes_alone_give_the_same_count(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = CELLS[-1]
    computed = flops_of(begin(cell))
    monkeypatch.setattr(flops, "_counted", {})
    monkeypatch.setattr(flops, "MOST_COMPUTED", 0)
    monkeypatch.setattr(flops, "MOST_OF_A_WINDOW", 0)
    assert computed is not None
    assert flops_of(begin(cell)) == computed
    # It looks for the distinct pairs of a batch, whose number no shape tells.
    rope = {"model": "bigram_v2", "block_size": 16, "n_embd": 24, "pe_type": "rope"}
    assert flops_of(begin(rope)) is None
    monkeypatch.setattr(flops, "_counted", {})
    monkeypatch.setattr(flops, "MOST_OF_A_WINDOW", 1e12)
    assert flops_of(begin(rope)) is not None


def test_a_users_modules_are_counted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counted_models.py").write_text(USERS_MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    B, T, C = BATCH, 8, 16
    recurrent = flops_of(begin({"model": "counted_models:Recurrent", "block_size": T}))
    assert recurrent is not None
    assert recurrent.step == pytest.approx(3 * (2 * product(B * T, C, 4 * C) + product(B * T, C, V)), rel=0.02)
    # In evaluations torch takes a fused kernel for the layers of an encoder.
    run = begin({"model": "counted_models:Encoder", "block_size": T})
    calls = run.model.calls
    encoder = flops_of(run)
    gpt = {"model": "gpt", "block_size": T, "n_layer": 2, "n_embd": C}
    expected = by_hand(gpt)
    assert encoder is not None
    assert (encoder.step, encoder.evaluation) == pytest.approx((expected.step, expected.evaluation), rel=0.02)
    assert run.model.calls == calls
    assert flops_of(begin({"model": "counted_models:Tagged", "block_size": T})) is None
    assert "flops" not in begin({"model": "counted_models:Tagged", "block_size": T}).describe()


@pytest.mark.parametrize("evaluation", ["full", "sampled"])
def test_a_run_has_the_operations_of_all_its_attempts(evaluation: str) -> None:
    settings = SETTINGS.model_copy(update={"evaluation": evaluation, "eval_batches": 2, "batch_size": 4})
    settings = settings.model_copy(update={"gradient_accumulation_steps": 2})
    cell = {"model": "bigram_mf", "block_size": 8, "n_embd": 24}
    first, second = begin(cell, settings), begin(cell, settings)
    counted = flops_of(first)
    assert counted is not None
    assert counted.step == 2 * 3 * product(V, 24, V)
    first.advance(lambda: False)
    first.advance(lambda: False)
    second.restore(first.save())
    assert second.describe()["flops"] == 3 * counted.step + 2 * counted.evaluation
    while not second.finished:
        second.advance(lambda: False)
    assert second.describe()["flops"] == 6 * counted.step + 3 * counted.evaluation
    if evaluation == "sampled":
        assert counted.evaluation == 2 * 2 * product(V, 24, V)


def test_counting_changes_no_result_and_imports_no_compiler() -> None:
    cell = {"model": "gpt", "block_size": 8, "n_layer": 1, "n_head": 2, "n_embd": 8, "dropout": 0.1}
    plain, counted = begin(cell), begin(cell)
    had = "torch._dynamo" in sys.modules
    flops_of(counted)
    assert ("torch._dynamo" in sys.modules) == had
    for run in (plain, counted):
        while not run.finished:
            run.advance(lambda: False)
    assert plain.curve == counted.curve
