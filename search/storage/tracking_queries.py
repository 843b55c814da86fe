"""Reads what has changed in the trials of some studies since a given time, for trackers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, or_, select

from search.storage import optuna_queries, optuna_tables
from search.storage.database import Database
from search.storage.metrics import read_metrics, reported
from search.storage.queries import cells_of
from search.storage.schema import LATE_COMMIT_S, UID, queue_table

_COLUMNS = tuple(
    queue_table.c[name]
    for name in (
        *(
            "study",
            "number",
            "cell",
            "trial_id",
            "state",
            "token",
            "outcome",
            "reason",
            "started_at",
            "finished_at",
            "train_loss",
            "value",
        ),
    )
)


# The user attribute of a language model's trial.
SAMPLE = "sample"


@dataclass(frozen=True)
class TrackedTrial:
    """A trial that can have changed.

    Attributes:
        uid: Distinguishes its study from others of the same name.
        cell: The parameters, without the seed.
        claim: Counts its claims; a failed trial that was put back into the queue ends with a higher count.
        outcome: complete, pruned, diverged or failed; None before its end.
        started_at: When it was claimed last; seconds since 1970, by the database's clock.
        ended_at: Seconds since 1970, by the database's clock; None before its end.
        train_loss: At its last evaluation; None without one, or if it was not finite.
        metrics: Step → metrics besides the value.
        values: The final values, one for each objective; empty unless it is complete.
        sample: Text that a language model wrote; None without one.
        curve: Step → value, steps ascending; values may be NaN or infinite where training diverged.
    """

    study: str
    uid: str
    number: int
    cell: Mapping[str, Any]
    seed: int
    claim: int
    outcome: str | None
    reason: str | None
    started_at: float | None
    ended_at: float | None
    train_loss: float | None
    metrics: Mapping[int, Mapping[str, float]]
    curve: Mapping[int, float]
    values: Sequence[float] = ()
    sample: str | None = None


def trials_with_news(database: Database, studies: Sequence[str], since: float) -> list[TrackedTrial]:
    """The trials of `studies` that were evaluated and have not ended, and those that ended after `since`.

    Args:
        since: Seconds since 1970, by the database's clock; the `LATE_COMMIT_S` before it are read again.

    Returns:
        The trials, ordered by study and number.
    """
    unfinished = and_(queue_table.c.state != "done", queue_table.c.step.is_not(None))
    ended = and_(queue_table.c.state == "done", queue_table.c.finished_at >= since - LATE_COMMIT_S)
    query = (
        select(*_COLUMNS)
        .where(queue_table.c.study.in_(studies), or_(unfinished, ended))
        .order_by(queue_table.c.study, queue_table.c.number)
    )

    def work(connection: Connection) -> list[TrackedTrial]:
        rows = connection.execute(query).all()
        curves = optuna_queries.read_curves(connection, [row.trial_id for row in rows])
        uids = {study: _uid(connection, study) for study in {row.study for row in rows}}
        cells = cells_of(connection, rows)
        metrics = read_metrics(connection, [row.trial_id for row in rows])
        further = optuna_queries.read_further_values(connection, studies)
        ended_ids = [row.trial_id for row in rows if row.state == "done"]
        samples = optuna_queries.read_user_attrs(connection, ended_ids, [SAMPLE])
        return [
            _tracked(
                row,
                cells[row.trial_id],
                uids[row.study],
                curves.get(row.trial_id, {}),
                {step: reported(each) for step, each in metrics.get(row.trial_id, {}).items()},
                further.get(row.trial_id, ()),
                samples.get(row.trial_id, {}).get(SAMPLE),
            )
            for row in rows
        ]

    return database.read(work)


def _uid(connection: Connection, study: str) -> str:
    study_id = optuna_tables.study_id(connection, study)
    return "" if study_id is None else str(optuna_tables.study_attrs(connection, study_id).get(UID, ""))


def _tracked(
    row: Any,
    cell: dict[str, Any],
    uid: str,
    curve: Mapping[int, float],
    metrics: Mapping[int, Mapping[str, float]],
    further: Sequence[float],
    sample: object,
) -> TrackedTrial:
    seed = int(cell.pop("seed"))
    ended = row.state == "done"
    finite = row.train_loss is not None and math.isfinite(row.train_loss)
    return TrackedTrial(
        study=row.study,
        uid=uid,
        number=row.number,
        cell=cell,
        seed=seed,
        claim=row.token,
        outcome=row.outcome if ended else None,
        reason=row.reason if ended else None,
        started_at=row.started_at,
        ended_at=row.finished_at if ended else None,
        train_loss=row.train_loss if finite else None,
        metrics=metrics,
        curve=curve,
        values=(row.value, *further) if ended and row.outcome == "complete" else (),
        sample=sample if isinstance(sample, str) else None,
    )
