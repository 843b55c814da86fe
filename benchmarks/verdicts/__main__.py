"""Checks the error rates of the verdicts on studies whose truth is known: `python -m benchmarks.verdicts`.

Each line is a world, a policy and a number of seeds. Beside a figure with a bound stands "ok" if it is within the 99 %
interval of that bound for so many draws, else "OUT".
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from multiprocessing import get_context

import numpy as np

from benchmarks.pruning.replay import Floats
from benchmarks.verdicts.policies import POLICIES
from benchmarks.verdicts.scores import Score, scores
from benchmarks.verdicts.worlds import NULL_WORLDS, WORLDS, World

DRAWS, SEEDS, CHUNK = 1000, (2, 3, 5), 50
NORMAL_99 = 2.576
# Intervals of differences must hold the truth in so many cases; more is no fault where seeds are not equal.
LOW, HIGH = 0.93, 0.97
FALSE, BEST = 0.05, 0.95
MEDIAN_SIZE = 12  # of 36 cells, at 2 seeds in the Gaussian world
HEADS = [
    *("world", "policy", "seeds", "intervals of means", "of single settings", "all joint intervals", "false verdicts"),
    *("best in the set", "its median size", "best not pruned", "told"),
]
NAMES = [each.name for each in fields(Score)]


def tasks() -> Iterator[tuple[World, str, int]]:
    """Every world, policy and number of seeds."""
    for world in WORLDS:
        yield from ((world, policy, seeds) for policy in POLICIES for seeds in SEEDS)
    for world in NULL_WORLDS:
        yield from ((world, "equal", seeds) for seeds in SEEDS)


def line(world: World, policy: str, seeds: int, found: Floats) -> str:
    """A row of the table.

    Args:
        found: The scores of all draws (draws, fields).
    """
    by_name = dict(zip(NAMES, found.T, strict=True))
    has_bound = world.has_bound and seeds > 2
    texts = [world.name, policy, str(seeds)]
    for name in ("means", "settings"):
        texts.append(_between(by_name[name], has_bound, HIGH if policy == "equal" else 1.0))
    texts.append(_share(by_name["joint"], at_least=0.95 if has_bound else None))
    texts.append(_share(by_name["false"], at_most=FALSE))
    texts.append(_share(by_name["best"], at_least=BEST))
    size = float(np.median(by_name["size"]))
    is_bound = (world.name, policy, seeds) == ("gaussian", "equal", 2)
    texts.append(f"{size:g}" + (f" {_word(size <= MEDIAN_SIZE)}" if is_bound else ""))
    texts.append(f"{by_name['unpruned'].mean():.0%}")
    texts.append(f"{np.nanmean(by_name['answered']):.0%}")
    return f"| {' | '.join(texts)} |"


def _between(shares: Floats, has_bound: bool, high: float) -> str:
    """A mean of shares; those of one study depend on each other, so its error is that over the studies."""
    shares = shares[~np.isnan(shares)]
    if not len(shares):
        return "none"
    mean, reach = float(shares.mean()), NORMAL_99 * float(shares.std(ddof=1)) / len(shares) ** 0.5
    text = f"{mean:.1%}"
    return f"{text} {_word(LOW - reach <= mean <= high + reach)}" if has_bound else f"{text} (no bound)"


def _share(flags: Floats, at_least: float | None = None, at_most: float | None = None) -> str:
    from scipy.stats import binom

    flags = flags[~np.isnan(flags)]
    count, n = int(flags.sum()), len(flags)
    text = f"{count / max(n, 1):.1%}"
    if at_least is not None:
        return f"{text} {_word(count >= binom.ppf(0.005, n, at_least))}"
    return f"{text} {_word(count <= binom.ppf(0.995, n, at_most))}" if at_most is not None else f"{text} (no bound)"


def _word(is_within: bool) -> str:
    return "ok" if is_within else "OUT"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=DRAWS, help="studies of each line")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="worlds, policies and seeds that contain this, as in 't3 pruned 5'")
    options = parser.parse_args(arguments)
    # Two processes with as many threads each as there are processors would be slower than one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    began = time.monotonic()
    print(f"| {' | '.join(HEADS)} |\n| --- | --- {'| ---: ' * (len(HEADS) - 2)}|", flush=True)
    sizes = [min(CHUNK, options.draws - start) for start in range(0, options.draws, CHUNK)]
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        chosen = [each for each in tasks() if options.only in f"{each[0].name} {each[1]} {each[2]}"]
        running = [
            [pool.submit(scores, world.name, policy, seeds, size, chunk) for chunk, size in enumerate(sizes)]
            for world, policy, seeds in chosen
        ]
        for task, parts in zip(chosen, running, strict=True):
            print(line(*task, np.concatenate([part.result() for part in parts])), flush=True)
    print(f"\n{options.draws} studies a line, {(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
