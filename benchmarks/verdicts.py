"""Checks the error rates of the verdicts: `python -m benchmarks.verdicts`.

The studies are simulated with known effects and noise: every cell has its own level (so that effects depend on the
cell), every seed moves all cells, and the noise differs from cell to cell. Their verdicts are compared with the truth.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.statistics.comparisons import SUPPORTED, compare_all, corrected
from search.statistics.losses import Losses, best_cells

DRAWS = 1000


@dataclass(frozen=True)
class MadeUp:
    """A kind of study.

    Attributes:
        levels: Of each factor; the last factor has no effect at all.
        seeds: Seeds of each cell.
        effect: Standard deviation of the effects of a factor's levels and their interactions, in nats.
        noise: Largest standard deviation of a trial's own noise, in nats; cells differ from a tenth of it up to it.
        seed_effect: Standard deviation of the shift of a seed, equal for all cells, in nats.
    """

    levels: Sequence[int]
    seeds: int
    effect: float = 0.05
    noise: float = 0.05
    seed_effect: float = 0.05

    def draw(self, rng: np.random.Generator) -> tuple[Losses, dict[str, float]]:
        """One study, and the true mean loss of each cell by its canonical text."""
        cells = [
            {f"f{axis}": level for axis, level in enumerate(point)}
            for point in itertools.product(*map(range, self.levels))
        ]
        shape = tuple(self.levels[:-1])
        truth = np.repeat(rng.normal(2.5, self.effect, shape).ravel(), self.levels[-1])
        noise = self.noise * rng.uniform(0.1, 1.0, len(cells))
        table = (
            truth[:, np.newaxis]
            + rng.normal(0.0, self.seed_effect, self.seeds)
            + noise[:, np.newaxis] * rng.normal(size=(len(cells), self.seeds))
        )
        losses = Losses(cells, list(range(self.seeds)), table)
        return losses, {str(sorted(cell.items())): value for cell, value in zip(cells, truth, strict=True)}


@dataclass
class Score:
    """The result of many draws.

    Attributes:
        intervals, covered: Intervals, and those that hold the truth.
        studies: Studies.
        false: The sum over the studies of the share of supported differences that are none or the other way round.
        best_tied: Studies whose true best cell is among those tied for best.
    """

    intervals: int = 0
    covered: int = 0
    studies: int = 0
    false: float = 0.0
    best_tied: int = 0


def score(kind: MadeUp, draws: int, seed: int) -> Score:
    """Judge made-up studies of one kind."""
    rng, found = np.random.default_rng(seed), Score()
    for _ in range(draws):
        losses, truth = kind.draw(rng)
        supported = false = 0
        for each in corrected(list(compare_all(losses).by_levels.values()), losses):
            true = _true_difference(losses, truth, each.factor, each.better, each.worse)
            assert each.low is not None
            assert each.high is not None
            found.intervals += 1
            found.covered += each.low <= true <= each.high
            supported += each.verdict == SUPPORTED
            false += each.verdict == SUPPORTED and true <= 1e-12
        found.studies += 1
        found.false += false / max(1, supported)
        _, tied = best_cells(losses)
        found.best_tied += any(truth[str(sorted(cell.items()))] == min(truth.values()) for cell in tied)
    return found


def _true_difference(losses: Losses, truth: dict[str, float], factor: str, better: object, worse: object) -> float:
    def mean(level: object) -> float:
        return float(np.mean([truth[str(sorted(cell.items()))] for cell in losses.cells if cell[factor] == level]))

    return mean(worse) - mean(better)


KINDS = [
    MadeUp((3, 3, 2), 2),
    MadeUp((3, 3, 2), 5),
    MadeUp((3, 4, 3), 5),
    MadeUp((3, 4, 3), 10, noise=0.2),
    MadeUp((2, 2, 2), 3, effect=0.0),
    MadeUp((3, 3, 3), 5, effect=0.0),
    MadeUp((4, 2, 2), 5, seed_effect=0.5),
]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=DRAWS, help="studies of each kind")
    options = parser.parse_args()
    measured = "intervals that hold the truth | false among the supported | best cell among the tied"
    print(f"| levels | seeds | effect | noise | seed effect | {measured} |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for number, kind in enumerate(KINDS):
        found = score(kind, options.draws, number)
        levels = " x ".join(map(str, kind.levels))
        print(
            f"| {levels} | {kind.seeds} | {kind.effect} | {kind.noise} | {kind.seed_effect} "
            f"| {found.covered / found.intervals:.1%} | {found.false / found.studies:.1%} "
            f"| {found.best_tied / found.studies:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
