"""What a step of `gpt` costs: `python -m benchmarks.step_time`.

First this service's step against a loop written by hand, with the same model, settings and batches. Then a stack of
eight models against the eight alone. The two of a row alternate step by step in one process on one core, and a ratio is
the median of those of the pairs. Times are CPU time, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.compare.tables import machine
from search.models.gpt import GPT
from search.objectives.corpus import Corpus, load_corpus
from search.objectives.language_model.objective import start
from search.objectives.language_model.settings import LanguageModelSettings
from search.objectives.language_model.stacked_runs import RunGroup
from search.objectives.torch_setup import prepare_torch

Pair = tuple[Callable[[], object], Callable[[], object]]  # what is timed against each other

STACKED = 8
# n_embd, n_layer, block_size, batch_size, pe_type
LOOPS = [(128, 4, 64, 12, "learned"), (128, 4, 64, 32, "rope"), (64, 2, 64, 32, "rope"), (32, 2, 32, 8, "learned")]
STACKS = [
    (16, 2, 16, 8, "learned"),
    (32, 2, 32, 8, "learned"),
    (32, 2, 32, 8, "rope"),
    (64, 2, 64, 12, "learned"),
    (64, 2, 64, 32, "rope"),
]


def hand_written(cell: dict[str, Any], settings: LanguageModelSettings, corpus: Corpus) -> Callable[[], None]:
    """The step of a loop as people write it: random windows, clipped gradients, AdamW."""
    tokens, generator = torch.tensor(corpus.train), torch.Generator().manual_seed(0)
    model = GPT(vocab_size=corpus.vocab_size, **{name: value for name, value in cell.items() if name != "model"})
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    block_size = cell["block_size"]

    def step() -> None:
        starts = torch.randint(len(tokens) - block_size, (settings.batch_size,), generator=generator).tolist()
        x = torch.stack([tokens[i : i + block_size] for i in starts])
        y = torch.stack([tokens[i + 1 : i + block_size + 1] for i in starts])
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
        optimizer.step()

    return step


def against_a_loop(cell: dict[str, Any], settings: LanguageModelSettings, corpus: Corpus) -> Pair:
    """The step of a loop by hand, and ours."""
    return hand_written(cell, settings, corpus), start(cell, 0, settings, corpus, "cpu").take_step


def against_eight(cell: dict[str, Any], settings: LanguageModelSettings, corpus: Corpus) -> Pair:
    """A step of each model alone, and one of all in a stack."""
    alone, stacked = ([start(cell, seed, settings, corpus, "cpu") for seed in range(STACKED)] for _ in range(2))
    together = RunGroup(stacked)
    assert together.stacks, "the models cannot be stacked"
    return lambda: [run.take_step() for run in alone], together.step


def compared(first: Callable[[], object], second: Callable[[], object], pairs: int) -> tuple[float, float, float]:
    """Median milliseconds of both, and the median of second / first."""
    taken = []
    for pair in range(pairs + 2):
        times = []
        for work in (first, second):
            began = time.process_time()
            work()
            times.append(time.process_time() - began)
        if pair >= 2:  # the first steps allocate
            taken.append(times)
    ratio = statistics.median(b / a for a, b in taken)
    a_s, b_s = (statistics.median(each) for each in zip(*taken, strict=True))
    return 1000 * a_s, 1000 * b_s, ratio


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40, help="steps of each")
    options = parser.parse_args()
    prepare_torch()
    corpus = load_corpus()
    print(f"One core of: {machine()}.\n")
    for title, rows in (("a loop by hand | lm-search", LOOPS), (f"{STACKED} alone | a stack of {STACKED}", STACKS)):
        print(f"| n_embd | n_layer | block_size | batch_size | pe_type | {title.replace(' |', ', ms |')}, ms | ratio |")
        print("| ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |")
        for n_embd, n_layer, block_size, batch_size, pe_type in rows:
            cell = {"model": "gpt", "n_embd": n_embd, "n_layer": n_layer, "block_size": block_size, "pe_type": pe_type}
            settings = LanguageModelSettings(batch_size=batch_size, learning_rate=1e-3, grad_clip=1.0)
            works = against_a_loop if rows is LOOPS else against_eight
            first_ms, second_ms, ratio = compared(*works(cell, settings, corpus), options.pairs)
            print(
                f"| {n_embd} | {n_layer} | {block_size} | {batch_size} | {pe_type} | {first_ms:.2f} | {second_ms:.2f} "
                f"| {ratio:.3f} |",
                flush=True,
            )
        print()


if __name__ == "__main__":
    main()
