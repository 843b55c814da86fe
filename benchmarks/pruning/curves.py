"""`python -m benchmarks.pruning.curves`: writes the curves of an unpruned study as a small CSV, and reads it.

One line per evaluation: the study, the cell, the seed, the step, both losses in nats per character, and the seconds
that the whole trial took, evaluations included.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt

from search.command_line import new_program
from search.errors import UsageError, user_errors
from search.option_fields import Option
from search.shared_options import BaselinesOptions, StudyOptions
from search.study.cells import BASELINES_SUFFIX

if TYPE_CHECKING:
    from search.storage.queries import TrialSummary

DATA = Path(__file__).parents[1] / "data" / "bigram_curves.csv"
# Further seeds of that study's best cell and its rivals.
FURTHER = (DATA.with_name("winner_curves.csv"), DATA.with_name("rivals_curves.csv"))
LOSSES = ("train_loss", "val_loss")
FACTS = ("study", "seed", "step", *LOSSES, "seconds")

Cell = frozenset[tuple[str, Any]]
Trial = tuple[Cell, int]  # and the seed
Curve = dict[int, float]  # from step to validation loss


@dataclass(frozen=True)
class Curves:
    """The curves of C cells at S steps, with K seeds in all; some cells may lack some of the seeds.

    Attributes:
        cells: The cells, without seeds, in the order of the file.
        seeds: The seeds (K,).
        steps: The steps (S,) that were evaluated.
        val_loss: Validation losses (C, K, S); NaN where a cell lacks the seed.
        seconds: The time of each trial (C, K); the mean of the cell where it was not measured alike.
    """

    cells: tuple[Mapping[str, Any], ...]
    seeds: tuple[int, ...]
    steps: npt.NDArray[np.int64]
    val_loss: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]

    @property
    def true_losses(self) -> npt.NDArray[np.float64]:
        """The final loss of each cell, mean over its seeds (C,)."""
        means: npt.NDArray[np.float64] = np.nanmean(self.val_loss[:, :, -1], axis=1)
        return means

    @property
    def measured(self) -> npt.NDArray[np.bool_]:
        """Which seeds each cell has (C, K)."""
        return ~np.isnan(self.val_loss[:, :, -1])

    @property
    def fewest_seeds(self) -> int:
        """How many seeds every cell has at least."""
        return int(self.measured.sum(1).min())

    def at_common_seeds(self) -> Curves:
        """The curves at the seeds that every cell has."""
        common = np.flatnonzero(self.measured.all(0))
        seeds = tuple(self.seeds[index] for index in common)
        return Curves(self.cells, seeds, self.steps, self.val_loss[:, common], self.seconds[:, common])

    def subset(self, chosen: npt.NDArray[np.int64]) -> Curves:
        """The curves of the cells at some indices."""
        cells = tuple(self.cells[index] for index in chosen)
        return Curves(cells, self.seeds, self.steps, self.val_loss[chosen], self.seconds[chosen])


def load_curves(path: Path = DATA, *further: Path) -> Curves:
    """Read the output of `python -m benchmarks.pruning.curves`, without the baselines.

    Args:
        path: The curves of every cell at every seed.
        further: Curves of some of the cells at more seeds, made at another time: their seconds do not count.

    Raises:
        UsageError: A file does not exist, a curve is missing or torn, or two files differ about one.
    """
    cells, curves, seconds = _read(path)
    first_seeds = sorted({seed for _, seed in curves})
    if not curves or len(curves) < len(cells) * len(first_seeds):
        raise UsageError(f"{path} lacks curves: every cell needs every seed and every step")
    for file in further:
        known, found, _ = _read(file)
        for key, cell in known.items():
            if key not in cells:
                raise UsageError(f"{file} has a cell that {path} lacks: {cell}; give curves of one study")
        for (key, seed), curve in found.items():
            if curves.get((key, seed), curve) != curve:
                raise UsageError(f"{file} has other losses of {known[key]}, seed {seed}, than the file before it")
        curves |= found
    seeds = sorted({seed for _, seed in curves})
    steps = sorted({step for curve in curves.values() for step in curve})
    for (key, seed), curve in curves.items():
        if len(curve) < len(steps):
            raise UsageError(f"{cells[key]}, seed {seed}, lacks steps: every cell needs every seed and every step")
    missing = dict.fromkeys(steps, np.nan)
    table = [[curves.get((key, seed), missing) for seed in seeds] for key in cells]
    pace = {key: np.mean([seconds[key, seed] for seed in first_seeds]) for key in cells}
    return Curves(
        tuple(cells.values()),
        tuple(seeds),
        np.array(steps),
        np.array([[[curve[step] for step in steps] for curve in row] for row in table]),
        np.array([[seconds.get((key, seed), pace[key]) for seed in seeds] for key in cells]),
    )


def _read(path: Path) -> tuple[dict[Cell, dict[str, Any]], dict[Trial, Curve], dict[Trial, float]]:
    """The cells of a file; and the curve and the seconds of each trial."""
    try:
        read = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}; make it with python -m benchmarks.pruning.curves"
        ) from error
    cells: dict[Cell, dict[str, Any]] = {}
    curves: dict[Trial, Curve] = {}
    seconds: dict[Trial, float] = {}
    for line in read:
        if line["study"].endswith(BASELINES_SUFFIX):
            continue
        cell = {name: _parse(text) for name, text in line.items() if name not in FACTS and text}
        trial = frozenset(cell.items()), int(line["seed"])
        cells.setdefault(trial[0], cell)
        seconds[trial] = float(line["seconds"])
        curves.setdefault(trial, {})[int(line["step"])] = float(line["val_loss"])
    return cells, curves, seconds


def _parse(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@dataclass(frozen=True, kw_only=True)
class CurvesOptions(BaselinesOptions, StudyOptions):
    """The options of this program."""

    output: Annotated[Path, Option("The file to write.", "FILE", convert=Path)] = Path("curves.csv")
    skip_unfinished: Annotated[bool, Option("Leave out trials that have not ended.")] = False


def export(options: CurvesOptions) -> None:
    """Write the curves of a study whose trials are all complete.

    A trial that was pruned, diverged or failed is never left out: the curves that remain would be the better ones.
    """
    with user_errors():
        from search.storage.queries import STATES, UNFINISHED, trial_summaries
        from search.study.lookup import open_studies

        database, names = open_studies(
            options.study, options.storage, options.storage_wait_s, baselines=options.baselines
        )
        with database.closing():
            states = [each for each in STATES if not (options.skip_unfinished and each in UNFINISHED)]
            runs = trial_summaries(database, names, states, attrs=("train_seconds", "train_curve"))
            curves = validation_curves(database, names)
        text = as_csv(runs, curves)
        try:
            options.output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--output {options.output}: {error.strerror}; choose a writable file") from error
    print(f"{options.output}: {len(runs)} trials, {len(text):,} bytes")


def validation_curves(database: Any, studies: list[str]) -> dict[tuple[str, int], dict[int, float]]:
    """The validation losses of all trials by step; keys are study and trial number."""
    from optuna.study import Study

    from search.storage.optuna_storage import SearchStorage

    backend = SearchStorage(database)
    found = {}
    for name in studies:
        for trial in Study(study_name=name, storage=backend).get_trials(deepcopy=False):
            found[name, trial.number] = trial.intermediate_values
    return found


def as_csv(runs: list[TrialSummary], curves: Mapping[tuple[str, int], Mapping[int, float]]) -> str:
    """Format the curves: losses with six digits after the point, seconds with three.

    Raises:
        UsageError: A trial is not complete.
    """
    unfinished = [run for run in runs if run.state != "complete"]
    if unfinished:
        first = unfinished[0]
        raise UsageError(
            f"{len(unfinished)} trials of {first.study} are not complete, such as number {first.number} "
            f"({first.state}); run the study to its end with --pruner none"
        )
    axes = list(dict.fromkeys(name for run in runs for name in run.cell if name != "seed"))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["study", *axes, *FACTS[1:]], restval="", lineterminator="\n")
    writer.writeheader()
    for run in runs:
        train_losses = dict(run.attrs["train_curve"])
        for step, val_loss in sorted(curves[run.study, run.number].items()):
            losses = zip(LOSSES, (f"{train_losses[step]:.6f}", f"{val_loss:.6f}"), strict=True)
            seconds = f"{run.attrs['train_seconds']:.3f}"
            writer.writerow({"study": run.study, **run.cell, "step": step, **dict(losses), "seconds": seconds})
    return text.getvalue()


app = new_program(export, CurvesOptions, [("the curves of the built-in study", "--study bigram")], study="bigram")


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
