"""`python -m benchmarks.pruning`: which pruner keeps the best cell, and at what cost, replayed from measured curves.

Without options it prints the tables of docs/pruning.md. `--pruner` replays any Optuna pruner with its real code;
`--check STUDY` compares a real pruned run with the same curves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import typer

from benchmarks.pruning.curves import DATA, FURTHER, Curves, load_curves
from benchmarks.pruning.draws import ORDERS, Order, draw_queues
from benchmarks.pruning.madeup import SHAPES, Shape, madeup_curves
from benchmarks.pruning.replay import Outcome, Queues, Rule, replay
from benchmarks.pruning.rules import HalvingRule, NeverRule, PatientRule, PercentileRule, TopCellsRule, WilcoxonRule
from benchmarks.pruning.scores import Score, mean_score, score
from benchmarks.pruning.winner import never_pruned, winner_table
from search.errors import UsageError, user_errors
from search.shared_options import DEFAULT_STORAGE

PRUNERS: dict[str, Callable[[], Rule]] = {
    "none": NeverRule,
    "median, from 2000": lambda: PercentileRule(50, 2000, 4),
    "median, from 500": lambda: PercentileRule(50, 500, 4),
    "percentile 25, from 500": lambda: PercentileRule(25, 500, 4),
    "percentile 10, from 500": lambda: PercentileRule(10, 500, 4),
    "percentile 10, from 1500": lambda: PercentileRule(10, 1500, 4),
    "sha 2, from 2000": lambda: HalvingRule(2000, 2),
    "sha 2, from 500": lambda: HalvingRule(500, 2),
    "sha 3, from 500": lambda: HalvingRule(500, 3),
    "sha 4, from 500": lambda: HalvingRule(500, 4),
    "hyperband 2, from 500": lambda: HalvingRule(500, 2, brackets=4),
    "hyperband 3, from 500": lambda: HalvingRule(500, 3, brackets=3),
    "patient 1, median, from 500": lambda: PatientRule(PercentileRule(50, 500, 4), 1),
    "patient 1, percentile 10, from 500": lambda: PatientRule(PercentileRule(10, 500, 4), 1),
    "wilcoxon 0.1": lambda: WilcoxonRule(0.1, 2),
    "wilcoxon 0.02": lambda: WilcoxonRule(0.02, 2),
    "top 3, from 500": lambda: TopCellsRule(3, 500),
    "top 4, from 500": lambda: TopCellsRule(4, 500),
    "top 5, from 500": lambda: TopCellsRule(5, 500),
    "top 6, from 500": lambda: TopCellsRule(6, 500),
    "top 8, from 500": lambda: TopCellsRule(8, 500),
    "top 5, from 1000": lambda: TopCellsRule(5, 1000),
    "top 5, from 2000": lambda: TopCellsRule(5, 2000),
}
DEFAULT, FORMER = "top 5, from 500", "median, from 2000"
DEFAULT_ORDER: Order = "grid"
DEFAULT_WORKERS = 2
RIVALS = (
    "none",
    FORMER,
    "median, from 500",
    "sha 4, from 500",
    "top 4, from 500",
    DEFAULT,
    "top 6, from 500",
    "top 5, from 2000",
)
HALVES, MADEUP = 100, 40
HELD_OUT = DATA.with_name("learning_rates_curves.csv")

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def scored(
    curves: Curves, rule: Rule, draws: int, workers: int, repetitions: int = 1, order: Order = DEFAULT_ORDER
) -> Score:
    """Replay `draws` runs and score them."""
    queues = draw_queues(curves, draws, repetitions, order)
    return score(curves, queues, replay(queues, rule, workers))


def scored_together(grids: Sequence[Curves], rule: Rule, draws: int, workers: int) -> list[Score]:
    """A score for each of several grids of equal size, shuffled; one replay of all is faster than many small ones."""
    each = max(1, draws // len(grids))
    queues = [draw_queues(grid, each, 1, "shuffled") for grid in grids]
    values, seconds, cells = (
        np.concatenate([getattr(part, name) for part in queues]) for name in ("values", "seconds", "cells")
    )
    outcome = replay(Queues(values, seconds, cells, queues[0].steps), rule, workers)
    parts = [slice(first, first + each) for first in range(0, len(values), each)]
    return [
        score(grid, own, Outcome(outcome.last[part], outcome.pruned[part]))
        for grid, own, part in zip(grids, queues, parts, strict=True)
    ]


_COLUMNS = "| pruner | compute | best survives | best found | rank error of top 5 | regret | worst regret | complete |"


def all_pruners(curves: Curves, draws: int, workers: int) -> Iterator[str]:
    """Every pruner in the order of the grid, one seed."""
    yield _COLUMNS
    yield _rule(7)
    for name, make in PRUNERS.items():
        yield _row(name, scored(curves, make(), draws, workers))


def _rule(numbers: int) -> str:
    return "| --- |" + " ---: |" * numbers


def _row(name: str, found: Score) -> str:
    return (
        f"| {name} | {found.compute:.1%} | {found.survives:.1%} | {found.found:.1%} | {found.rank_error:.2f} "
        f"| {found.regret:.4f} | {found.worst_regret:.4f} | {found.complete:.1f} |"
    )


def winners_curves(curves: Curves, draws: int, workers: int) -> Iterator[str]:
    """The rivals, and the default from later on, on each curve of the truly best cell."""
    safe = never_pruned(curves, 5, 500)  # the default's arguments
    yield (
        f"`{DEFAULT}`, one seed a cell: {safe.sum()} of {len(safe)} curves cannot be pruned, whichever curves the "
        "other cells draw, in any order, with any number of workers.\n"
    )
    yield from winner_table(curves, {name: PRUNERS[name] for name in (*RIVALS[1:], "top 5, from 1000")}, draws, workers)


def all_orders(curves: Curves, draws: int, workers: int) -> Iterator[str]:
    """Every pruner in every order: how often the best survives, at which compute."""
    yield f"| pruner | {' | '.join(ORDERS)} |"
    yield _rule(len(ORDERS))
    for name, make in PRUNERS.items():
        found = [scored(curves, make(), draws, workers, order=order) for order in ORDERS]  # type: ignore[arg-type]
        yield f"| {name} | {' | '.join(f'{each.survives:.1%} at {each.compute:.1%}' for each in found)} |"


def more_seeds(curves: Curves, draws: int, workers: int) -> Iterator[str]:
    """The rivals with three and five seeds a cell, in the order of the grid and shuffled."""
    cases: list[tuple[int, Order]] = [(3, "grid"), (3, "shuffled"), (5, "grid"), (5, "shuffled")]
    yield f"| pruner | {' | '.join(f'{seeds} seeds, {order}' for seeds, order in cases)} |"
    yield _rule(len(cases))
    for name in RIVALS[1:]:
        found = [scored(curves, PRUNERS[name](), draws, workers, seeds, order) for seeds, order in cases]
        yield f"| {name} | {' | '.join(f'{each.survives:.1%} at {each.compute:.1%}' for each in found)} |"


def more_workers(curves: Curves, draws: int) -> Iterator[str]:
    """The default with other numbers of workers and seeds, and how much its compute varies between draws."""
    yield "| seeds | workers | compute | 5 % to 95 % of draws | best survives | worst regret | complete |"
    yield "| ---: |" + " ---: |" * 6
    for seeds, workers in [(1, 1), (1, 2), (1, 8), (1, 36), (5, 2), (5, 8)]:
        found = scored(curves, PRUNERS[DEFAULT](), draws, workers, seeds)
        low, high = found.compute_range
        yield (
            f"| {seeds} | {workers} | {found.compute:.1%} | {low:.1%} to {high:.1%} | {found.survives:.1%} "
            f"| {found.worst_regret:.4f} | {found.complete:.1f} |"
        )


def real_seeds(curves: Curves, draws: int, workers: int) -> Iterator[str]:
    """The rivals where all cells have the same seed, as in a real run; and the correlation of cells across seeds."""
    curves = curves.at_common_seeds()
    last = curves.val_loss[:, :, -1] - curves.true_losses[:, None]
    alike = np.asarray(np.corrcoef(last))[np.triu_indices(len(last), 1)].mean()
    yield f"Mean correlation of two cells' final losses over the seeds: {alike:.2f}.\n"
    yield _COLUMNS
    yield _rule(7)
    for name in RIVALS:
        queues = draw_queues(curves, draws, 1, DEFAULT_ORDER, together=True)
        yield _row(name, score(curves, queues, replay(queues, PRUNERS[name](), workers)))


def half_grids(curves: Curves, draws: int, workers: int) -> Iterator[str]:
    """The rivals on random halves of the grid, in shuffled order, where other cells are the best."""
    rng = np.random.default_rng(0)
    cells = len(curves.cells)
    halves = [curves.subset(np.sort(rng.choice(cells, cells // 2, replace=False))) for _ in range(HALVES)]
    yield "| pruner | compute | best survives | worst half | best found | regret | worst regret |"
    yield _rule(6)
    for name in RIVALS:
        scores = scored_together(halves, PRUNERS[name](), draws, workers)
        found, worst = mean_score(scores), min(each.survives for each in scores)
        yield (
            f"| {name} | {found.compute:.1%} | {found.survives:.1%} | {worst:.0%} | {found.found:.1%} "
            f"| {found.regret:.4f} | {found.worst_regret:.4f} |"
        )


def on_madeup_curves(draws: int, workers: int) -> Iterator[str]:
    """The rivals on simulated curves, shuffled: several grids of each shape."""
    grids = {shape: [madeup_curves(shape, seed) for seed in range(MADEUP)] for shape in get_args(Shape)}
    yield f"| pruner | {' | '.join(SHAPES)} |"
    yield _rule(len(SHAPES))
    for name in RIVALS:
        cells = []
        for shape in SHAPES:
            found = mean_score(scored_together(grids[shape], PRUNERS[name](), draws, workers))
            cells.append(f"{found.survives:.1%} at {found.compute:.1%}")
        yield f"| {name} | {' | '.join(cells)} |"


def other_curves(path: Path, draws: int, workers: int) -> Iterator[str]:
    """The rivals on the curves of another study."""
    curves = load_curves(path)
    yield _COLUMNS
    yield _rule(7)
    for name in RIVALS:
        yield _row(name, scored(curves, PRUNERS[name](), draws, workers))


def sections(curves: Curves, draws: int, workers: int) -> dict[str, Callable[[], Iterator[str]]]:
    """Every table of docs/pruning.md, by its title."""
    return {
        "Every pruner, one seed a cell, in the order of the grid": lambda: all_pruners(curves, draws, workers),
        "Every curve of the best cell": lambda: winners_curves(curves, draws, workers),
        "Other orders of the queue": lambda: all_orders(curves, draws, workers),
        "More seeds": lambda: more_seeds(curves, max(1, draws // 4), workers),
        "The default with other numbers of workers": lambda: more_workers(curves, max(1, draws // 4)),
        "The five real runs": lambda: real_seeds(curves, max(1, draws // 4), workers),
        "Random halves of the grid": lambda: half_grids(curves, draws, workers),
        "Another study: learning rates": lambda: other_curves(HELD_OUT, draws, workers),
        "Simulated curves": lambda: on_madeup_curves(draws, workers),
    }


def _section(curves: Curves, draws: int, workers: int, title: str) -> str:
    return "\n".join([f"### {title}\n", *sections(curves, draws, workers)[title](), ""])


def all_tables(curves: Curves, draws: int, workers: int) -> Iterator[str]:
    """The tables, computed by two processes."""
    with ProcessPoolExecutor(2) as pool:
        yield from pool.map(partial(_section, curves, draws, workers), sections(curves, draws, workers))


@app.command()
def main(
    curves: Annotated[
        list[Path],
        typer.Option(
            help="Output of python -m benchmarks.pruning.curves: every cell at every seed, then more seeds of some.",
            metavar="FILE",
            show_default=", ".join(file.name for file in (DATA, *FURTHER)),
        ),
    ] = [DATA, *FURTHER],  # noqa: B006, typer copies it
    draws: Annotated[int, typer.Option(help="Replayed runs of each setting.", min=1)] = 1000,
    workers: Annotated[int, typer.Option(help="Virtual workers.", min=1)] = DEFAULT_WORKERS,
    seeds: Annotated[int, typer.Option(help="Trials of each cell, for --pruner.", min=1)] = 1,
    order: Annotated[str, typer.Option(help=f"{', '.join(ORDERS)}; for --pruner.")] = DEFAULT_ORDER,
    pruner: Annotated[
        str | None, typer.Option(help="Replay only this Optuna pruner.", metavar="'NAME(ARGUMENTS)'")
    ] = None,
    check: Annotated[
        str | None, typer.Option(help="Compare a finished, pruned run with the curves.", metavar="STUDY")
    ] = None,
    storage: Annotated[
        str, typer.Option(help="Database of that study.", metavar="URL", envvar="SEARCH_STORAGE")
    ] = DEFAULT_STORAGE,
) -> None:
    """Replay measured curves through pruners."""
    with user_errors():
        known = load_curves(*curves)
        if check is not None:
            from benchmarks.pruning.pruned_run import check_run

            print(check_run(known, check, storage, draws, workers))
        elif pruner is not None:
            print("\n".join(_one_pruner(known, pruner, draws, workers, seeds, order)))
        else:
            for table in all_tables(known, draws, workers):
                print(table, flush=True)


def _one_pruner(curves: Curves, pruner: str, draws: int, workers: int, seeds: int, order: str) -> Iterator[str]:
    from benchmarks.pruning.optuna_replay import optuna_pruner, replay_with_pruner

    if order not in ORDERS:
        raise UsageError(f"--order {order}: choices are {', '.join(ORDERS)}")
    if seeds > curves.fewest_seeds:
        raise UsageError(f"--seeds {seeds}: some cell has curves of only {curves.fewest_seeds} seeds")
    queues = draw_queues(curves, draws, seeds, order)  # type: ignore[arg-type]
    outcome = replay_with_pruner(queues, optuna_pruner(pruner), workers)
    yield _COLUMNS
    yield _rule(7)
    yield _row(pruner, score(curves, queues, outcome))


if __name__ == "__main__":
    app()
