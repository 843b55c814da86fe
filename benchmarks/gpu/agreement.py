"""How far losses on a GPU are from those on the CPU, by cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.gpu.roofline import cell_text
from search.objectives.corpus import load_corpus
from search.objectives.language_model.accelerated_group import AcceleratedGroup
from search.objectives.language_model.objective import start
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.settings import LanguageModelSettings
from search.objectives.torch_setup import prepare_torch

STEPS = 200
RATES = (1e-3, 1e-2)
CELLS: tuple[Mapping[str, Any], ...] = (
    {"model": "bigram", "block_size": 8},
    {"model": "bigram_mf", "block_size": 8, "n_embd": 384},
    *(
        {"model": "bigram_v2", "n_embd": n_embd, "block_size": block_size, "pe_type": pe_type}
        for pe_type in ("randn", "sinpe", "rope")
        for n_embd, block_size in ((64, 8), (64, 64), (256, 8))
    ),
    {"model": "gpt", "block_size": 32, "n_embd": 64, "n_layer": 2, "n_head": 2},
)


def agreement() -> list[dict[str, object]]:
    """The largest difference of the validation losses at steps 0, 100 and 200, for each cell and rate."""
    prepare_torch("cuda:0")
    torch.set_num_threads(8)
    corpus = load_corpus()
    found: list[dict[str, object]] = []
    for cell in CELLS:
        differences = []
        for rate in RATES:
            settings = LanguageModelSettings(
                max_iters=STEPS, eval_interval=STEPS // 2, learning_rate=rate, evaluation="sampled", eval_batches=20
            )
            runs = [start(cell, 0, settings, corpus, device) for device in ("cpu", "cuda:0")]
            group = AcceleratedGroup(runs[1:])
            while not runs[1].finished:
                group.advance(lambda: False)
            group.remove(group.runs)
            while not runs[0].finished:
                runs[0].advance(lambda: False)
            differences.append(max(abs(a - b) for a, b in zip(*map(_losses, runs), strict=True)))
        found.append({"cell": cell_text(cell), "differences": differences})
    return found


def _losses(run: LanguageModelRun) -> list[float]:
    return [point.value for point in run.curve]
