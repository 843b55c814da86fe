"""`python -m benchmarks.racing`: how often `seeds = "adaptive"` finds the best cell, and with how many trials.

The studies are simulated and have 36 cells: each cell has a true loss, a seed shifts all cells equally, and every trial
has independent noise. The alternative to the race is the same number of seeds for every cell: the smallest number that
finds the best cell with the required frequency.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.strategies.racing import leader, next_seeds
from search.study.search_space import RacingSettings

CELLS = 36
WANTED = 0.95
# Enough seeds for the alternative to find the best cell in every world below.
MOST_SEEDS = 60


@dataclass(frozen=True)
class World:
    """How losses are simulated.

    Attributes:
        gap: True loss of the second best cell above the best, in nats per character.
        noise: Standard deviation of a trial's loss.
        shared: Standard deviation of the shift of a seed, equal for all cells.
        chaotic: Factor of the noise of every fourth other cell.
    """

    name: str
    gap: float
    noise: float
    shared: float = 0.01
    chaotic: float = 1.0

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.float64]:
        """Losses (CELLS, MOST_SEEDS); cell 0 is the best, the others rise evenly from `gap` to 0.25 above it."""
        truth = 2.3 + np.concatenate([[0.0], np.linspace(self.gap, 0.25, CELLS - 1)])
        noise = np.full(CELLS, self.noise)
        noise[4::4] *= self.chaotic
        own = rng.normal(size=(CELLS, MOST_SEEDS)) * noise[:, None]
        losses: npt.NDArray[np.float64] = truth[:, None] + own + rng.normal(size=MOST_SEEDS) * self.shared
        return losses


WORLDS = (
    World("clear", gap=0.02, noise=0.01),
    World("as the grid", gap=0.01, noise=0.01),
    World("close", gap=0.01, noise=0.02),
    World("chaotic cells", gap=0.01, noise=0.01, chaotic=5.0),
)


@dataclass(frozen=True)
class Outcome:
    """The result of many draws of a world.

    Attributes:
        correct: Share of races that named the best cell.
        trials: Mean number of trials per race.
        equal_seeds: Seeds that each cell needs for the same certainty without a race.
        equal_correct: Share of draws in which that number of seeds names the best cell.
    """

    world: World
    correct: float
    trials: float
    equal_seeds: int
    equal_correct: float

    @property
    def share(self) -> float:
        """Trials of a race as a share of the trials that equal seeds need."""
        return self.trials / (self.equal_seeds * CELLS)


def race(losses: npt.NDArray[np.float64], rules: RacingSettings) -> tuple[str, int]:
    """Run one race on made-up losses (CELLS, MOST_SEEDS).

    Returns:
        The leader at the end, and the number of trials.
    """
    known = {str(cell): {seed: float(losses[cell, seed]) for seed in range(rules.first)} for cell in range(CELLS)}
    trials = CELLS * rules.first
    while wanted := next_seeds(known, 0, rules, CELLS, trials):
        for cell, seed in wanted.items():
            known[cell][seed] = float(losses[int(cell), seed])
        trials += len(wanted)
    return leader(known), trials


def simulate(world: World, draws: int, rules: RacingSettings, seed: int = 1) -> Outcome:
    """Simulate and race `draws` studies of a world."""
    rng = np.random.default_rng(seed)
    studies = [world.draw(rng) for _ in range(draws)]
    means = np.stack([losses.cumsum(axis=1) / np.arange(1, MOST_SEEDS + 1) for losses in studies])
    right = (means.argmin(axis=1) == 0).mean(axis=0)  # (MOST_SEEDS,)
    # The smallest number of seeds above which it is always right often enough, since the share fluctuates.
    enough = int(np.flatnonzero(right < WANTED).max(initial=-1)) + 1
    enough = min(enough, MOST_SEEDS - 1)
    ends = [race(losses, rules) for losses in studies]
    correct = float(np.mean([name == "0" for name, _ in ends]))
    trials = float(np.mean([count for _, count in ends]))
    return Outcome(world, correct, trials, enough + 1, float(right[enough]))


def table(outcomes: list[Outcome]) -> str:
    """The figures as a markdown table."""
    columns: dict[str, Callable[[Outcome], str]] = {
        "made-up losses": lambda each: each.world.name,
        "gap": lambda each: f"{each.world.gap:g}",
        "noise": lambda each: f"{each.world.noise:g}",
        "race: correct": lambda each: f"{each.correct:.1%}",
        "race: trials": lambda each: f"{each.trials:.0f}",
        "equal seeds: correct": lambda each: f"{each.equal_correct:.1%}",
        "equal seeds: trials": lambda each: f"{each.equal_seeds * CELLS} ({each.equal_seeds} seeds)",
        "share": lambda each: f"{each.share:.0%}",
    }
    lines = [list(columns), ["---"] * len(columns), *([text(o) for text in columns.values()] for o in outcomes)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=1000, help="simulated studies of each kind")
    rules = RacingSettings(max_seeds=MOST_SEEDS)
    print(table([simulate(world, parser.parse_args().draws, rules) for world in WORLDS]))


if __name__ == "__main__":
    main()
