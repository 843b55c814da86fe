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
from search.options import BaselinesOptions, StudyOptions
from search.study.cells import BASELINES_SUFFIX

if TYPE_CHECKING:
    from search.storage.queries import TrialSummary

DATA = Path(__file__).parents[1] / "data" / "bigram_curves.csv"
LOSSES = ("train_loss", "val_loss")
FACTS = ("study", "seed", "step", *LOSSES, "seconds")


@dataclass(frozen=True)
class Curves:
    """The curves of C cells with K seeds each, at S steps.

    Attributes:
        cells: The cells, without seeds, in the order of the file.
        seeds: The seeds (K,).
        steps: The steps (S,) that were evaluated.
        val_loss: Validation losses (C, K, S).
        seconds: The time of each trial (C, K).
    """

    cells: tuple[Mapping[str, Any], ...]
    seeds: tuple[int, ...]
    steps: npt.NDArray[np.int64]
    val_loss: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]

    @property
    def true_losses(self) -> npt.NDArray[np.float64]:
        """The final loss of each cell, mean over its seeds (C,)."""
        means: npt.NDArray[np.float64] = self.val_loss[:, :, -1].mean(1)
        return means

    def subset(self, chosen: npt.NDArray[np.int64]) -> Curves:
        """The curves of the cells at some indices."""
        cells = tuple(self.cells[index] for index in chosen)
        return Curves(cells, self.seeds, self.steps, self.val_loss[chosen], self.seconds[chosen])


def load_curves(path: Path = DATA) -> Curves:
    """Read the output of `python -m benchmarks.pruning.curves`, without the baselines.

    Raises:
        UsageError: The file does not exist, or some cell lacks a seed or a step.
    """
    try:
        read = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}; make it with python -m benchmarks.pruning.curves"
        ) from error
    lines = [line for line in read if not line["study"].endswith(BASELINES_SUFFIX)]
    losses: dict[tuple[Any, ...], float] = {}
    seconds: dict[tuple[Any, ...], float] = {}
    cells: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in lines:
        cell = {name: _parse(text) for name, text in line.items() if name not in FACTS and text}
        key = tuple(cell.items())
        cells.setdefault(key, cell)
        seconds[key, int(line["seed"])] = float(line["seconds"])
        losses[key, int(line["seed"]), int(line["step"])] = float(line["val_loss"])
    seeds, steps = sorted({each[1] for each in losses}), sorted({each[2] for each in losses})
    if not lines or len(losses) < len(cells) * len(seeds) * len(steps):
        raise UsageError(f"{path} lacks curves: every cell needs every seed and every step")
    return Curves(
        tuple(cells.values()),
        tuple(seeds),
        np.array(steps),
        np.array([[[losses[key, seed, step] for step in steps] for seed in seeds] for key in cells]),
        np.array([[seconds[key, seed] for seed in seeds] for key in cells]),
    )


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


def export(options: CurvesOptions) -> None:
    """Write the curves of a study whose trials are all complete."""
    with user_errors():
        from search.storage.queries import trial_summaries
        from search.study.lookup import open_studies

        database, names = open_studies(
            options.study, options.storage, options.storage_wait_s, baselines=options.baselines
        )
        with database.closing():
            runs = trial_summaries(database, names, attrs=("train_seconds", "train_curve"))
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
