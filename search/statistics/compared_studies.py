"""One of two studies that are compared: what is read of it, and which axes its cells share with the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.storage.database import Database
from search.storage.queries import TrialSummary, attr_counts, trial_summaries
from search.storage.values import canonical
from search.study.cells import without_seed
from search.study.differences import Difference, fact_differences, provenance_facts, study_facts
from search.study.stored import StoredStudy, read_stored_study
from search.study.trial_facts import ENVIRONMENT

# The axis that tells two studies apart.
STUDY_AXIS = "study"


@dataclass(frozen=True)
class ComparedStudy:
    """One of two studies that are compared.

    Attributes:
        label: What it is called beside the other one.
        trials: All its trials, those of its baselines included.
        environments: The number of trials with losses by each value of what they ran on, by name; empty if no trial
            has a record.
    """

    label: str
    stored: StoredStudy
    trials: Sequence[TrialSummary]
    environments: Mapping[str, Counter[str]]

    @property
    def own_trials(self) -> list[TrialSummary]:
        """The trials without those of the baselines."""
        return [trial for trial in self.trials if trial.study == self.stored.name]

    @property
    def takes_seeds(self) -> bool:
        """Whether the seeds of its trials have a meaning."""
        return not (self.stored.is_made_by_optuna or self.stored.definition.suggests_parameters)

    def facts(self) -> dict[str, Mapping[str, Any]]:
        """What it was planned with, and what its trials ran on, by group."""
        found = {name: _counts_text(counts) for name, counts in self.environments.items()}
        return {**study_facts(self.stored), **provenance_facts(found)}


def read_compared_study(database: Database, names: Sequence[str], label: str) -> ComparedStudy:
    """Read one of two studies.

    Args:
        names: The study, and its sibling with the baselines if that is included.
    """
    stored = read_stored_study(database, names[0])
    assert stored is not None, "open_studies checked that it exists"
    environments: dict[str, Counter[str]] = {}
    for _, record, count in attr_counts(database, names, ENVIRONMENT):
        for name, value in record.items() if isinstance(record, Mapping) else ():
            if value is not None:
                environments.setdefault(name, Counter())[str(value)] += count
    return ComparedStudy(label, stored, trial_summaries(database, names), environments)


def study_differences(first: ComparedStudy, second: ComparedStudy) -> list[Difference]:
    """What differs between two studies besides their results; nothing of records that one of them lacks."""
    facts = [each.facts() for each in (first, second)]
    if not first.environments or not second.environments:
        facts = [{name: each for name, each in one.items() if name not in provenance_facts({})} for one in facts]
    return fact_differences(*facts)


def _counts_text(counts: Counter[str]) -> str:
    """The only value, or all with the number of trials."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({count} trials)" for value, count in sorted(counts.items()))


def cell_of(trial: TrialSummary, dropped: Iterable[str]) -> dict[str, Any]:
    """The cell of a trial without some axes."""
    return {axis: value for axis, value in without_seed(trial.cell).items() if axis not in dropped}


def combined_axes(first: ComparedStudy, second: ComparedStudy) -> tuple[str, list[str]]:
    """What the cells of two studies are matched by.

    Returns:
        An axis that neither study has, which tells them apart; and the axes that are left out, because each study has
        one value of it, or none, and the two differ: that is a setting of the studies, as those in [training] are.
    """
    # A slot has no cell yet.
    cells = [[cell for trial in each.own_trials if (cell := cell_of(trial, ()))] for each in (first, second)]
    known = {axis for each in (first, second) for trial in each.trials for axis in trial.cell}
    axis = STUDY_AXIS
    while axis in known:
        axis += "_"
    fixed = [_fixed(each.stored, own) for each, own in zip((first, second), cells, strict=True)]
    absent = [known - {name for cell in own for name in cell} for own in cells]
    dropped = [
        name
        for name in sorted({*fixed[0], *fixed[1]})
        if all(name in fixed[at] or name in absent[at] for at in (0, 1))
        and canonical(fixed[0].get(name)) != canonical(fixed[1].get(name))
    ]
    return axis, dropped


def _fixed(stored: StoredStudy, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The axes of one value, which all cells of the study have."""
    if stored.is_made_by_optuna:
        return {}  # its axes are those of the trials that there are, and more of them may have other values
    single = {axis: values[0] for axis, values in stored.definition.grid.items() if len(values) == 1}
    return {
        axis: value
        for axis, value in single.items()
        if all(axis in cell and canonical(cell[axis]) == canonical(value) for cell in cells)
    }
