"""What a training step costs for every shape: `python -m benchmarks.steps`.

The plain loop's step, this service's step, and a fused group's step per trial, alternating in one process on one core.
The share of the core counts the matrix products of the plain formula against the measured rate of float32 matrix
products; the service avoids most of these products, so the share can exceed 100 %.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.compare.plain_loop import BATCH_SIZE, PlainLoop
from benchmarks.compare.tables import machine
from benchmarks.compare.task import the_cells
from search.objectives.corpus import load_corpus
from search.objectives.language_model.objective import start
from search.objectives.language_model.stacked_runs import RunGroup
from search.objectives.settings import TrainingSettings
from search.objectives.torch_setup import prepare_torch

ROUNDS = 5
GROUPS = (5, 15)
PEAK_SIZE = 1024


def peak_flops() -> float:
    """Float operations a second of a large float32 matrix product: the best of some."""
    a, b = torch.randn(PEAK_SIZE, PEAK_SIZE), torch.randn(PEAK_SIZE, PEAK_SIZE)
    best = min(_seconds(lambda: a @ b) for _ in range(20))
    return float(2 * PEAK_SIZE**3 / best)


def step_flops(n_embd: int, block_size: int, vocab_size: int) -> float:
    """Float operations of a step of the plain `bigram_v2`: its matrix products, forward and twice that backward."""
    places = BATCH_SIZE * block_size
    qkv, head = 2 * places * n_embd * 3 * n_embd, 2 * places * n_embd * vocab_size
    attention = 2 * 2 * places * block_size * n_embd
    return 3.0 * (qkv + head + attention)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def medians(works: Sequence[Callable[[], object]], times: int) -> list[float]:
    """Median milliseconds of each function; they alternate, so that other load slows all of them."""
    for work in works:
        work()
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for work, its in zip(works, taken, strict=True):
            its += [_seconds(work) for _ in range(times)]
    return [1000 * statistics.median(its) for its in taken]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-n-embd", type=int, default=256, help="leave wider cells out")
    options = parser.parse_args()
    prepare_torch()
    corpus, settings = load_corpus(), TrainingSettings()
    train, validation = torch.tensor(corpus.train), torch.tensor(corpus.validation)
    peak = peak_flops()
    print(f"One core of: {machine()}. Float32 matrix products of {PEAK_SIZE}: {peak / 1e9:.0f} GFLOP/s.\n")
    groups = " | ".join(f"in a group of {size}, ms a trial" for size in GROUPS)
    print(f"| pe_type | n_embd | block_size | plain loop, ms | alone, ms | {groups} | share of the core |")
    print("| --- | ---: | ---: | ---: | ---: |" + " ---: |" * len(GROUPS) + " ---: |")
    for cell in the_cells():
        if cell["model"] != "bigram_v2" or cell["n_embd"] > options.max_n_embd:
            continue
        plain = PlainLoop(cell, train, validation, corpus.vocab_size)
        alone = RunGroup([start(cell, 0, settings, corpus, "cpu")])
        fused = [RunGroup([start(cell, seed, settings, corpus, "cpu") for seed in range(size)]) for size in GROUPS]
        small = cell["n_embd"] * cell["block_size"] <= 2048
        plain_ms, alone_ms, *fused_ms = medians(
            [plain.step, alone.step, *(group.step for group in fused)], times=20 if small else 3
        )
        share = step_flops(cell["n_embd"], cell["block_size"], corpus.vocab_size) / (alone_ms / 1000) / peak
        each = " | ".join(f"{ms / size:.2f}" for ms, size in zip(fused_ms, GROUPS, strict=True))
        print(
            f"| {cell['pe_type']} | {cell['n_embd']} | {cell['block_size']} | {plain_ms:.2f} | {alone_ms:.2f} "
            f"| {each} | {share:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
