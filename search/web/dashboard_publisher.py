"""Updates what the dashboard shows of a study: its note with the table, its plots, and the names of its values.

`search.web.publisher_thread` says when.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Any

from search.reporting.render import render
from search.reporting.tables import as_markdown
from search.statistics.ranking import Row, metrics_of, ranked_rows
from search.storage.dashboard_attrs import claim_turn, show
from search.storage.database import Database
from search.storage.queries import trial_summaries, val_curves
from search.storage.values import canonical
from search.study.cells import without_seed
from search.study.formatting import describe_cell
from search.study.lookup import confirmation_of
from search.study.metrics import DEFAULT_METRICS
from search.study.stored import read_stored_study
from search.web.dashboard_plots import MAX_SEEDS, best_cells, heat_maps, learning_curves, parallel_coordinates
from search.web.dashboard_search_plots import best_values, pareto_front

log = logging.getLogger("search")

NOTE_ROWS = 40


def publish(database: Database, names: Sequence[str], every_s: float = 0.0) -> bool:
    """Publish studies, unless a process did so within `every_s` seconds; errors are logged, not raised.

    Returns:
        Whether they were published.
    """
    try:
        if not claim_turn(database, names[0], every_s):
            return False
        rows = ranked_rows(database, names)
        stored = read_stored_study(database, names[0])
        metrics = [each.name for each in (DEFAULT_METRICS if stored is None else stored.definition.metrics)]
        show(database, names[0], note(database, names), plots(database, names, rows), metrics)
        for sibling in names[1:]:
            _publish_sibling(database, sibling, f"The baselines of {names[0]}; see its note.")
        if (confirming := confirmation_of(database, names[0])) is not None:
            _publish_sibling(database, confirming, f"The confirmation of {names[0]}; see its note.")
    except Exception as error:  # an error in a plot must not stop a run
        log.info("cannot update the dashboard's note: %s", error)
        return False
    return True


def _publish_sibling(database: Database, name: str, remark: str) -> None:
    rows = ranked_rows(database, [name])
    table = f"# {name}\n\n{as_markdown(rows[:NOTE_ROWS])}\n\n{remark}"
    show(database, name, table, plots(database, [name], rows), [each.name for each in metrics_of(rows)])


def note(database: Database, names: Sequence[str]) -> str:
    """The study's note: the report with at most `NOTE_ROWS` rows of the table."""
    at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return f"{render(database, names, 'markdown', NOTE_ROWS)}\n\nAs of {at}."


def plots(database: Database, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any]:
    """The study's plots, by name."""
    stored = read_stored_study(database, names[0])
    grid = {} if stored is None else stored.definition.shared_grid
    figures = {
        "heat-maps": heat_maps(rows, grid),
        "learning-curves": _curves(database, names, best_cells(rows)),
        "parallel-coordinates": parallel_coordinates(rows, grid),
    }
    if stored is not None and stored.definition.sampler is not None:
        figures["best-so-far"] = _so_far(database, names[0], rows)
    if len(metrics_of(rows)) > 1:
        figures["pareto-front"] = pareto_front(rows, metrics_of(rows))
    return {name: figure for name, figure in figures.items() if figure is not None}


def _so_far(database: Database, name: str, rows: Sequence[Row]) -> dict[str, Any] | None:
    feasible = {canonical(row.cell): row.is_feasible for row in rows}
    ended = []
    trials = trial_summaries(database, [name], states=("complete",))
    for trial in sorted(trials, key=lambda trial: trial.finished_at or 0.0):
        if trial.val_loss is not None and math.isfinite(trial.val_loss):
            cell = without_seed(trial.cell)
            ended.append((trial.val_loss, cell, feasible.get(canonical(cell), True)))
    return best_values(ended, metrics_of(rows)[0])


def _curves(database: Database, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any] | None:
    labels = {canonical(row.cell): describe_cell(row.cell) for row in rows}
    keys: dict[str, list[tuple[str, int]]] = {label: [] for label in labels.values()}
    for trial in trial_summaries(database, names, states=("complete", "pruned", "running")):
        label = labels.get(canonical(without_seed(trial.cell)))
        if label is not None and len(keys[label]) < MAX_SEEDS:
            keys[label].append((trial.study, trial.number))
    curves = val_curves(database, [key for of_cell in keys.values() for key in of_cell])
    return learning_curves(
        {label: [curves[key] for key in of_cell if curves.get(key)] for label, of_cell in keys.items()},
        metrics_of(rows)[0].name,
    )
