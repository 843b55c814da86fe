"""`seeds = "auto"`: further seeds where they decide something.

Every cell gets the first seeds. Then, whenever no trial waits, the open questions of the study are found with the noise
model that the report uses: its claims, and which cell is the best. Seeds are given as `search.statistics.outlook` says,
until no question is left that the budget can answer.

The statistics are imported for such studies alone: every run and worker starts with this module.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search.storage.database import Database
from search.storage.planning import Extension, PlannedTrial, StoredTrial, extend, stored_trials
from search.storage.slots import identity
from search.storage.values import canonical
from search.study.cells import BASELINES_SUFFIX
from search.study.claims import Cell, Claim
from search.study.metrics import Metric
from search.study.planner import cell_trials
from search.study.stored import OPEN_QUESTIONS, SEEDS_GIVEN, StoredStudy, read_stored_study

if TYPE_CHECKING:
    from search.statistics.losses import Losses
    from search.statistics.outlook import Outlook, Rules


def losses_of(trials: Sequence[StoredTrial], metric: Metric) -> Losses:
    """The losses of trials, and the states of those without one."""
    from search.statistics.losses import Losses

    ended = [each for each in trials if each.outcome == "complete" and each.value is not None]
    others = [(each.cell, each.outcome) for each in trials if each.outcome != "complete" or each.value is None]
    return Losses.of([(each.cell, each.seed, float(each.value or 0.0)) for each in ended], metric, others)


def _seconds(trials: Sequence[StoredTrial]) -> dict[str, float]:
    """The seconds of a complete trial, by canonical cell."""
    found: dict[str, list[float]] = {}
    for each in trials:
        if each.outcome == "complete" and each.seconds is not None and each.seconds > 0:
            found.setdefault(canonical(each.cell), []).append(each.seconds)
    return {cell: statistics.median(values) for cell, values in found.items()}


def _outlook(grid: Sequence[StoredTrial], baselines: Sequence[StoredTrial], rules: Rules, metric: Metric) -> Outlook:
    from search.statistics.outlook import outlook

    everything = [*grid, *baselines]
    return outlook(losses_of(grid, metric), losses_of(everything, metric), rules, _seconds(everything))


def make_seed_planner(database: Database, study: StoredStudy) -> Callable[[], int] | None:
    """Make a function that plans the next seeds of a study and of its baselines, each where none of its trials waits.

    A worker that finds the queue empty calls it, and so does the next start. Each study is extended in one transaction
    under its planning lock, and nothing happens if another process was first.

    Returns:
        The function, which returns the number of trials that it planned; None if the study has another rule.
    """
    rules = _rules_of(study)
    if rules is None:
        return None
    metric = study.definition.metric
    sibling = read_stored_study(database, study.name + BASELINES_SUFFIX)

    def plan() -> int:
        # Some may wait for a run that trains them: this one may leave the baselines out.
        baselines = [] if sibling is None else stored_trials(database, sibling.planning)

        def of_grid(grid: Sequence[StoredTrial], attrs: Mapping[str, Any]) -> Extension:
            found = _outlook(grid, baselines, rules, metric)
            trials = _next_trials(found.next, grid, study.definition.cells, study.first_seed, rules)
            open_questions = [each.as_dict() for each in found.needs]
            return Extension(trials, {OPEN_QUESTIONS: open_questions, **_given(attrs, found, trials)})

        added = extend(database, study.name, study.planning, of_grid)
        if sibling is None or added or not _asks_for(rules.claims, sibling):
            return added
        grid = stored_trials(database, study.planning)
        if any(each.outcome == "waiting" for each in grid):
            return 0

        def of_baselines(ended: Sequence[StoredTrial], attrs: Mapping[str, Any]) -> Extension:
            found = _outlook(grid, ended, rules, metric)
            cells = sibling.definition.baselines
            trials = _next_trials(found.next, ended, cells, study.first_seed, rules)
            return Extension(trials, _given(attrs, found, trials))

        return extend(database, sibling.name, sibling.planning, of_baselines)

    return plan


def _rules_of(study: StoredStudy) -> Rules | None:
    if study.settings.auto_seeds is None:
        return None
    from search.statistics.outlook import rules_of

    return rules_of(study)


def _given(attrs: Mapping[str, Any], found: Outlook, trials: Sequence[PlannedTrial]) -> Mapping[str, Any]:
    """How many trials each question has got, these included, as a user attribute of the study."""
    before: Mapping[str, int] = attrs.get(SEEDS_GIVEN, {})
    return {SEEDS_GIVEN: {**before, found.question: before.get(found.question, 0) + len(trials)}} if trials else {}


def _asks_for(claims: Sequence[Claim], sibling: StoredStudy) -> bool:
    baselines = {canonical(cell) for cell in sibling.definition.baselines}
    return any(canonical(cell) in baselines for claim in claims for cell in claim.cells)


def _next_trials(
    chosen: Sequence[Mapping[str, Any]],
    trials: Sequence[StoredTrial],
    cells: Sequence[Cell],
    first_seed: int,
    rules: Rules,
) -> list[PlannedTrial]:
    """The trials of a study for the chosen cells, each with the first seed that its cell does not have."""
    used: dict[str, set[int]] = {}
    for trial in trials:
        used.setdefault(canonical(trial.cell), set()).add(trial.seed)
    wanted = set()
    for cell in chosen:
        seeds = used.setdefault(canonical(cell), set())
        seed = next(each for each in range(first_seed, first_seed + 10**9) if each not in seeds)
        seeds.add(seed)
        wanted.add(canonical({**cell, "seed": seed}))
    every = cell_trials(cells, rules.settings.max_seeds, first_seed) if wanted else ()
    return [trial for trial in every if identity(trial.cell) in wanted]


def needed_cells(study: StoredStudy) -> Callable[[Mapping[str, Any]], bool]:
    """Which cells a study with automatic seeds must not prune: a claim compares them.

    Returns:
        A function of a cell without its seed.
    """
    if _rules_of(study) is None:
        return lambda cell: False
    from search.statistics.claim_answers import claimed_levels

    levels = [each for claim in study.claims for each in claimed_levels(claim)]
    cells = {canonical(cell) for each in levels if each.factor == "cell" for cell in (each.one, each.other)}
    values = {each.factor: set() for each in levels if each.factor != "cell"}  # type: dict[str, set[str]]
    for each in levels:
        if each.factor != "cell":
            values[each.factor] |= {canonical(each.one), canonical(each.other)}

    def is_needed(cell: Mapping[str, Any]) -> bool:
        return canonical(cell) in cells or any(
            axis in cell and canonical(cell[axis]) in of_axis for axis, of_axis in values.items()
        )

    return is_needed
