"""The formula for the memory of a run, and how many runs follow from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from search.objectives.corpus import encode
from search.objectives.language_model import memory_need
from search.objectives.language_model.cells import ReadCell, read_cell
from search.objectives.language_model.memory_need import MemoryNeed, run_bytes
from search.objectives.language_model.objective import LanguageModelObjective
from search.objectives.language_model.settings import LanguageModelSettings

GIB = 1 << 30
TEXT = encode("text", "the quick brown fox jumps over the lazy dog. " * 40)
CELL = {"model": "gpt", "block_size": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}


def need(**changed: Any) -> int | None:
    settings = LanguageModelSettings(batch_size=16)
    return run_bytes(read_cell({**CELL, **changed}, settings, TEXT), TEXT.vocab_size)


def test_what_makes_a_run_larger_makes_its_need_larger() -> None:
    first = need()
    assert first is not None
    for changed in ({"n_embd": 64}, {"n_layer": 3}, {"block_size": 32}, {"batch_size": 1024}):
        larger = need(**changed)
        assert larger is not None
        assert larger > first, changed


def test_a_model_that_cannot_be_stacked_needs_all_of_the_memory() -> None:
    assert need(dropout=0.1) is None
    share = MemoryNeed(torch.device("cuda")).share(
        read_cell({**CELL, "dropout": 0.1}, LanguageModelSettings(), TEXT), TEXT.vocab_size
    )
    assert share == 1.0


def test_shares_follow_from_what_is_free_and_from_what_groups_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2 * GIB)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 0.5)
    memory = MemoryNeed(torch.device("cuda"))
    assert memory.usable_bytes == int(memory_need.USABLE * 12 * GIB)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 0.1)
    assert memory.usable_bytes == int(memory_need.USABLE * 8 * GIB)
    asked: list[str] = []

    def gibibyte(read: ReadCell, vocab_size: int) -> int:
        asked.append(read.model)
        return GIB

    monkeypatch.setattr(memory_need, "run_bytes", gibibyte)
    read = read_cell(CELL, LanguageModelSettings(), TEXT)
    share = memory.share(read, TEXT.vocab_size)
    assert share == pytest.approx(1 / 6.4)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 6 * GIB)
    memory.compare([(read, TEXT.vocab_size)] * 3)
    assert memory.share(read, TEXT.vocab_size) == pytest.approx(2 * share)
    assert asked == ["gpt"], "computed once for a shape"


def test_shapes_take_turns_on_a_cpu() -> None:
    assert LanguageModelObjective().memory_share(CELL, LanguageModelSettings(), TEXT, "cpu") is None
    share = LanguageModelObjective().memory_share(CELL, LanguageModelSettings(), TEXT, "mps")
    assert share is not None
    assert 0 < share < 0.1
