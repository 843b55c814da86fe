"""What optuna-dashboard shows of a study besides its trials: the note, plots, and the names of the values.

The dashboard stores them in system attributes of the study, split into pieces. Its own functions write each piece in a
separate transaction; here one transaction writes all, so no visitor sees half of a plot, and two writers never mix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select

from search.storage import optuna_layout, optuna_tables
from search.storage.database import Database
from search.storage.texts import storable_json, storable_text

_attrs: Table = optuna_layout.study_system_attributes

PIECE = 2045  # characters; the capacity of the smallest attribute column in any version of Optuna
NOTE_VERSION, NOTE_PIECES, PLOT = "dashboard:note_ver", "dashboard:note_str:", "dashboard:plot_data:"
METRIC_NAMES = "study:metric_names"
# A page must load the note with every view.
MAX_NOTE = 100_000
PUBLISHED_AT = "lm-search:published_at"


def claim_turn(database: Database, study: str, every_s: float) -> bool:
    """Whether this caller may publish: no other did within `every_s` seconds of the database's clock.

    Also False for a study that does not exist.
    """

    def work(connection: Connection) -> bool:
        database.lock(connection, f"publish {study}")
        study_id = optuna_tables.study_id(connection, study)
        if study_id is None:
            return False
        now = database.time(connection)
        before = _value(connection, study_id, PUBLISHED_AT)
        # A clock that was set back must not block publishing until it catches up.
        if before is not None and 0 <= now - before < every_s:
            return False
        _replace(connection, study_id, {PUBLISHED_AT: now})
        return True

    return database.write(work)


def show(database: Database, study: str, note: str, plots: Mapping[str, Any], metrics: Sequence[str]) -> None:
    """Replace a study's note and the plots that have these names.

    Args:
        note: Markdown.
        plots: Figures as plotly's JSON, by name: letters, digits and hyphens.
        metrics: The names of the trials' values.
    """

    def work(connection: Connection) -> None:
        database.lock(connection, f"publish {study}")
        study_id = optuna_tables.study_id(connection, study)
        if study_id is None:
            return  # it was deleted
        pieces = _pieces(NOTE_PIECES, storable_text(note, MAX_NOTE))
        _remove(connection, study_id, NOTE_PIECES)
        for name, figure in plots.items():
            _remove(connection, study_id, f"{PLOT}{name}:")
            pieces |= _pieces(f"{PLOT}{name}:", json.dumps(figure, separators=(",", ":")))
        # A page that is editing an older version detects the change by this number.
        version = (_value(connection, study_id, NOTE_VERSION) or 0) + 1
        pieces |= {NOTE_VERSION: version, METRIC_NAMES: list(metrics)}
        _replace(connection, study_id, pieces)

    database.write(work)


def _pieces(prefix: str, text: str) -> dict[str, Any]:
    return {f"{prefix}{at // PIECE}": text[at : at + PIECE] for at in range(0, len(text), PIECE)}


def _value(connection: Connection, study_id: int, key: str) -> Any:
    found = connection.execute(select(_attrs.c.value_json).where(_attrs.c.study_id == study_id, _attrs.c.key == key))
    text = found.scalar()
    return None if text is None else json.loads(text)


def _remove(connection: Connection, study_id: int, prefix: str) -> None:
    begins = _attrs.c.key.startswith(prefix, autoescape=True)
    connection.execute(delete(_attrs).where(_attrs.c.study_id == study_id, begins))


def _replace(connection: Connection, study_id: int, attrs: Mapping[str, Any]) -> None:
    for key in (NOTE_VERSION, METRIC_NAMES, PUBLISHED_AT):
        if key in attrs:
            connection.execute(delete(_attrs).where(_attrs.c.study_id == study_id, _attrs.c.key == key))
    rows = [{"study_id": study_id, "key": key, "value_json": storable_json(value)} for key, value in attrs.items()]
    connection.execute(insert(_attrs), rows)
