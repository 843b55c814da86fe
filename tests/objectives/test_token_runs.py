"""Runs on token files give the losses of the same tokens in memory, to the last bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search.objectives.corpus import Corpus, load_corpus
from search.objectives.held_out import held_out_text
from search.objectives.language_model.objective import start
from search.objectives.language_model.settings import LanguageModelSettings
from search.objectives.language_model.stacked_runs import RunGroup
from search.objectives.language_model.token_tensors import as_tensor, widened
from search.objectives.vocabulary import Vocabulary

V = 40
CELL = {"model": "bigram_v2", "pe_type": "rope", "n_embd": 8, "block_size": 6}
SETTINGS = LanguageModelSettings(batch_size=4, max_iters=6, eval_interval=3, eval_batches=2, sample_chars=20)
IDS = np.random.default_rng(0).integers(0, V, 400)
TEXTS = {"train": IDS[:300], "val": IDS[300:360], "test": IDS[360:]}


def in_memory() -> Corpus:
    whole = Corpus("ids", "x", Vocabulary(V, "token"), TEXTS["train"], TEXTS["val"], TEXTS["test"])
    return dataclasses.replace(whole, held_out=held_out_text(whole))


def on_disk(folder: Path, kind: str) -> Corpus:
    folder.mkdir()
    for name, ids in TEXTS.items():
        ids.astype(kind).tofile(folder / f"{name}.bin")
    (folder / "meta.json").write_text(f'{{"vocab_size": {V}, "dtype": "{"uint16" if kind == "<u2" else "uint32"}"}}')
    corpus = load_corpus(folder)
    return dataclasses.replace(corpus, held_out=held_out_text(corpus))


def trained(corpus: Corpus, **settings: Any) -> list[Any]:
    run = start(CELL, 3, SETTINGS.model_copy(update=settings), corpus, "cpu")
    found: list[Any] = []
    while not run.finished:
        found.append(run.advance(lambda: False))
    facts = run.describe()
    assert facts["sample"] == ""  # nothing decodes these ids
    return [*found, facts["val_loss_by_position"]]


@pytest.mark.parametrize("settings", [{}, {"evaluation": "sampled"}, {"eval_tokens": 9}])
def test_losses_are_those_of_the_tokens_in_memory(tmp_path: Path, settings: dict[str, Any]) -> None:
    expected = trained(in_memory(), **settings)
    for kind in ("<u2", "<u4"):
        assert trained(on_disk(tmp_path / kind[1:], kind), **settings) == expected


def test_a_group_and_a_resumed_run_read_the_same_file(tmp_path: Path) -> None:
    corpus = on_disk(tmp_path / "ids", "<u2")
    runs = [start(CELL, seed, SETTINGS, corpus, "cpu") for seed in (3, 4)]
    group = RunGroup(runs)
    assert group.stacks
    while not runs[0].finished:
        group.advance(lambda: False)
    alone = start(CELL, 3, SETTINGS, corpus, "cpu")
    alone.advance(lambda: False)
    alone.advance(lambda: False)
    again = start(CELL, 3, SETTINGS, load_and_hold(tmp_path / "ids"), "cpu")
    again.restore(alone.save())
    for run in (alone, again):
        run.advance(lambda: False)
    assert alone.curve == again.curve
    assert [each.value for each in runs[0].curve] == pytest.approx([each.value for each in alone.curve], rel=1e-4)


def load_and_hold(folder: Path) -> Corpus:
    corpus = load_corpus(folder)
    return dataclasses.replace(corpus, held_out=held_out_text(corpus))


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"])
def test_every_id_of_every_type(kind: str) -> None:
    largest = min(np.iinfo(kind).max, 2**62)
    ids = np.array([0, 1, largest // 2, largest - 1, largest], dtype=kind)
    assert widened(as_tensor(ids, torch.device("cpu"))).tolist() == ids.tolist()


def test_a_mapped_file_is_not_copied(tmp_path: Path) -> None:
    corpus = on_disk(tmp_path / "ids", "<u2")
    tensor = as_tensor(corpus.train, torch.device("cpu"))
    assert tensor.data_ptr() == corpus.train.ctypes.data
    assert tensor.dtype == torch.int16
