"""Keeps what the dashboard shows of a study up to date: its note with the table, its plots, the name of its value.

Whoever runs trials publishes: the launcher of `search.run`, and workers that no launcher started. The database says
whose turn it is, so a study is published about once a minute however many there are; and once more when a run ends.
The dashboard does not publish: it is read-only, and may have been given a database role that cannot write.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from search.reporting.render import render
from search.reporting.tables import as_markdown
from search.statistics.ranking import Row, ranked_rows
from search.storage.dashboard_attrs import claim_turn, show
from search.storage.database import Database
from search.storage.queries import trial_summaries, val_curves
from search.storage.slots import canonical
from search.study.cells import without_seed
from search.study.formatting import describe_cell
from search.study.stored import read_stored_study
from search.web.dashboard_plots import MAX_SEEDS, best_cells, heat_maps, learning_curves, parallel_coordinates

log = logging.getLogger("search")

EVERY_S = 60.0
# At first the workers are starting, which they do faster alone, and there is little to say.
FIRST_S = 10.0
# Of a study of 10,000 trials it takes a second or two: it shall not cost more than this share of the time.
MAX_SHARE = 0.02
# It must neither wait long for a database that is away, nor hold up the end of a run.
OUTAGE_S = 2.0
NOTE_ROWS = 40
METRIC = "val_loss"


@contextmanager
def publishing(database: Database, names: Sequence[str]) -> Iterator[None]:
    """Publish studies now and then as long as the context lasts, and once more at its end.

    Args:
        database: Used from a thread of its own.
        names: The study's name, and that of its sibling with the baselines if there is one.
    """
    hasty = replace(database, outage_s=OUTAGE_S)
    ended = threading.Event()

    def work() -> None:
        pause_s = FIRST_S
        while not ended.wait(pause_s):
            began = time.monotonic()
            publish(hasty, names, every_s=EVERY_S)
            pause_s = max(EVERY_S, (time.monotonic() - began) / MAX_SHARE)

    thread = threading.Thread(target=work, name="publishing", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        publish(hasty, names)


def publish(database: Database, names: Sequence[str], every_s: float = 0.0) -> bool:
    """Publish studies, unless somebody did within `every_s` seconds. Nothing that goes wrong goes further than the log.

    Returns:
        Whether it was done.
    """
    try:
        if not claim_turn(database, names[0], every_s):
            return False
        rows = ranked_rows(database, names)
        show(database, names[0], note(database, names), plots(database, names, rows), METRIC)
        for sibling in names[1:]:
            its_rows = ranked_rows(database, [sibling])
            table = f"# {sibling}\n\n{as_markdown(its_rows[:NOTE_ROWS])}\n\nThe baselines of {names[0]}; see its note."
            show(database, sibling, table, plots(database, [sibling], its_rows), METRIC)
    except Exception as error:  # a picture is not worth a run
        log.info("the dashboard's note is not up to date: %s", error)
        return False
    return True


def note(database: Database, names: Sequence[str]) -> str:
    """The study's note: the report, cut where a page would get long."""
    at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return f"{render(database, names, 'markdown', NOTE_ROWS)}\n\nAs of {at}."


def plots(database: Database, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any]:
    """The study's plots, by name."""
    stored = read_stored_study(database, names[0])
    grid = {} if stored is None else stored.definition.grid
    figures = {
        "heat-maps": heat_maps(rows, grid),
        "learning-curves": _curves(database, names, best_cells(rows)),
        "parallel-coordinates": parallel_coordinates(rows, grid),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _curves(database: Database, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any] | None:
    wanted = {canonical(row.cell): describe_cell(row.cell) for row in rows}
    trials: dict[str, list[tuple[str, int]]] = {label: [] for label in wanted.values()}
    for run in trial_summaries(database, names, states=("complete", "pruned", "running")):
        label = wanted.get(canonical(without_seed(run.cell)))
        if label is not None and len(trials[label]) < MAX_SEEDS:
            trials[label].append((run.study, run.number))
    found = val_curves(database, [trial for its_trials in trials.values() for trial in its_trials])
    return learning_curves(
        {label: [found[trial] for trial in its_trials if found.get(trial)] for label, its_trials in trials.items()}
    )
