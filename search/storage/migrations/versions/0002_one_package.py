"""Renames what moved into the package `search`: the built-in objective, our models, the bigram baseline.

Schema 1 was written by programs that imported `models` and `objectives` from the top level, where only their own
packages could exist, so every name below is one of theirs. Other names belong to users and stay.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

log = logging.getLogger("storage")

OBJECTIVES = {"objectives.language_model:start": "language_model"}
MODELS = {
    "models.bigram:Bigram": "search.models.bigram:Bigram",
    "models.bigram_mf:BigramMF": "search.models.bigram_mf:BigramMF",
    "models.bigram_v2:BigramV2": "search.models.bigram_v2:BigramV2",
}
AXIS = "model"
# The user attributes of a study that contain cells or an objective.
TRANSLATED = ("definition", "published", "claims", "from")

_queue = sa.table(
    "search_runs", *(sa.column(name) for name in ("id", "trial_id", "cell", "shape_key", "state", "step"))
)
_attrs = sa.table(
    "study_user_attributes",
    *(sa.column(name) for name in ("study_user_attribute_id", "study_id", "key", "value_json")),
)
_params = sa.table("trial_params", *(sa.column(name) for name in ("trial_id", "param_name", "distribution_json")))


def upgrade() -> None:
    """Translate the names in the studies of lm-search; other studies in the same database stay unchanged."""
    connection = op.get_bind()
    studies = _rename_in_studies(connection)
    _rename_in_distributions(connection)
    restarted = _rename_in_cells(connection)
    log.info("translated the names of %d studies", studies)
    if restarted:
        log.warning(
            "%d unfinished trials restart from the beginning, because their checkpoints contain a model's old name; "
            "their losses are the same",
            restarted,
        )


def renamed(value: Any) -> Any:
    """JSON with the models of its cells and grids, and its objective, renamed."""
    if isinstance(value, list):
        return [renamed(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: renamed(each) for key, each in value.items()}
    if AXIS in found:
        found[AXIS] = _model(found[AXIS])
    if found.get("factor") == AXIS:  # a claim about models
        found |= {kind: _model(found[kind]) for kind in ("order", "not_always") if kind in found}
    if isinstance(objective := found.get("objective"), str):
        found["objective"] = OBJECTIVES.get(objective, objective)
    return found


def _model(value: Any) -> Any:
    if isinstance(value, list):
        return [_model(each) for each in value]
    return MODELS.get(value, value) if isinstance(value, str) else value


def _rename_in_studies(connection: sa.Connection) -> int:
    ours = list(connection.execute(sa.select(_attrs.c.study_id).where(_attrs.c.key == "definition")).scalars())
    for study_id in ours:
        of_study = _attrs.c.study_id == study_id
        for row in connection.execute(sa.select(_attrs).where(of_study, _attrs.c.key.in_(TRANSLATED))).all():
            before = json.loads(row.value_json)
            if (after := renamed(before)) != before:
                this = _attrs.c.study_user_attribute_id == row.study_user_attribute_id
                connection.execute(sa.update(_attrs).where(this).values(value_json=json.dumps(after)))
        keys = set(connection.execute(sa.select(_attrs.c.key).where(of_study)).scalars())
        if "floor" in keys:
            old = sa.and_(of_study, _attrs.c.key == "floor")
            has_both = "bigram_baseline" in keys
            connection.execute(
                sa.delete(_attrs).where(old) if has_both else sa.update(_attrs).where(old).values(key="bigram_baseline")
            )
    return len(ours)


def _rename_in_distributions(connection: sa.Connection) -> None:
    """Rename choices in place: Optuna stores a trial's choice as its index in the list, so no trial changes."""
    ours = _params.c.trial_id.in_(sa.select(_queue.c.trial_id))
    models = sa.and_(_params.c.param_name == AXIS, ours)
    texts = connection.execute(sa.select(_params.c.distribution_json).where(models).distinct()).scalars()
    for text in list(texts):
        distribution = json.loads(text)
        choices = distribution.get("attributes", {}).get("choices", [])
        if (after := _model(choices)) != choices:
            distribution["attributes"]["choices"] = after
            changed = sa.update(_params).where(models, _params.c.distribution_json == text)
            connection.execute(changed.values(distribution_json=json.dumps(distribution)))


def _rename_in_cells(connection: sa.Connection) -> int:
    """Rename models in cells; returns how many of the renamed trials had started and not ended."""
    restarted = 0
    for row in connection.execute(sa.select(_queue).where(_queue.c.cell.contains('"models.'))).all():
        cell = json.loads(row.cell)
        if (after := renamed(cell)) != cell:
            shape = _canonical(renamed(json.loads(row.shape_key))) if row.shape_key else ""
            changed = sa.update(_queue).where(_queue.c.id == row.id)
            connection.execute(changed.values(cell=_canonical(after), shape_key=shape))
            restarted += row.state != "done" and row.step is not None
    return restarted


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
