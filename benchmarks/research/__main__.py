"""Checks the intervals of the analyses on made-up studies whose truth is known: `python -m benchmarks.research`.

Each line is a world. Beside a figure stands "ok" if it is within the 99 % interval of its bound for so many studies,
else "OUT": intervals hold the truth in 93 to 97 %, and a drift that there is not is found in at most 5 %.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from benchmarks.research.scaling_worlds import SCALING_WORLDS
from benchmarks.research.scores import scores
from benchmarks.research.transfer_worlds import TRANSFER_WORLDS

DRAWS, CHUNK, SEEDS = 500, 50, (2, 3)
NORMAL_99, LOW, HIGH, FALSE = 2.576, 0.93, 0.97, 0.05


def cell(name: str, values: Sequence[float], *, has_bound: bool) -> str:
    """A figure with its judgement.

    A share of studies has a binomial error. Several intervals of one study depend on each other, so the error of their
    share is that over the studies.
    """
    shares = np.array(values)
    shares = shares[~np.isnan(shares)]
    if not len(shares):
        return "–"
    mean, low, high = float(shares.mean()), LOW, HIGH if has_bound else 1.0
    if name == "false drift":
        low, high = 0.0, FALSE
    bound = high if mean > high else low
    is_share = set(shares.tolist()) <= {0.0, 1.0}
    reach = NORMAL_99 * ((bound * (1 - bound)) ** 0.5 if is_share else float(shares.std())) / len(shares) ** 0.5
    return f"{mean:.1%} {'ok' if low - reach <= mean <= high + reach else 'OUT'}".replace("%", " %")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=DRAWS, help="studies of each line")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="kinds, worlds and seeds that contain this, as in 'transfer skewed'")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # two processes would get into each other's way
    began = time.monotonic()
    tasks = [("transfer", each.name, seeds, each.has_bound) for each in TRANSFER_WORLDS for seeds in SEEDS]
    tasks += [("scaling", each.name, 0, True) for each in SCALING_WORLDS]
    tasks = [each for each in tasks if all(word in f"{each[0]} {each[1]} {each[2]}" for word in options.only.split())]
    sizes = [min(CHUNK, options.draws - start) for start in range(0, options.draws, CHUNK)]
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        running = [[pool.submit(scores, *task[:3], size, chunk) for chunk, size in enumerate(sizes)] for task in tasks]
        shown = ""
        for (kind, name, seeds, has_bound), parts in zip(tasks, running, strict=True):
            found = [each for part in parts for each in part.result()]
            heads = list(dict.fromkeys(head for each in found for head in each))
            if kind != shown:
                print(f"\n| {kind} | {'seeds | ' if seeds else ''}{' | '.join(heads)} |")
                print(f"| --- |{' ---: |' * (len(heads) + bool(seeds))}", flush=True)
                shown, columns = kind, heads
            texts = [cell(head, [each.get(head, np.nan) for each in found], has_bound=has_bound) for head in columns]
            print(f"| {name} | {f'{seeds} | ' if seeds else ''}{' | '.join(texts)} |", flush=True)
    print(f"\n{options.draws} studies a line, {(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
