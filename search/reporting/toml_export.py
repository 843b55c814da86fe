"""A planned study as a study file, to run it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from search.study.analyses import analysis_table
from search.study.axis_tables import null_spelled
from search.study.metrics import DEFAULT_METRICS, Metric
from search.study.stored import StoredDefinition, StoredStudy


def study_as_toml(
    study: StoredStudy,
    baselines: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
) -> str:
    """TOML that `search.run --study FILE` reads as the same study.

    Args:
        study: The planned study.
        baselines: The cells of the sibling study.
        seeds: Those of its trials, in order.
    """
    definition, settings = study.definition, study.settings
    top: dict[str, Any] = {"name": study.name, "description": study.description, "objective": definition.objective}
    if seeds:
        top |= {"seeds": len(seeds), "first_seed": seeds[0]}
    top |= _metrics(definition.metrics)
    if study.confirm:
        top["confirm"] = study.confirm
    if settings.auto_seeds is not None:
        top["seeds"] = "auto"
    if definition.sampler is not None:
        # The trials' seeds do not show it: a cell that the sampler chooses again gets further seeds.
        top |= {"sampler": definition.sampler.model_dump(), "trials": study.trials, "seeds": study.seeds}
    if study.equivalence_margin is not None:
        top["equivalence_margin"] = study.equivalence_margin
    top |= {"exclude": definition.exclude, "enqueue": definition.enqueue}
    lines = _pairs({key: value for key, value in top.items() if key not in ("exclude", "enqueue") or value})
    axes = {
        name: _with_condition(axis.model_dump(), definition.when.get(name)) for name, axis in definition.axes.items()
    }
    sections: list[tuple[str, Mapping[str, Any]]] = [("[grid]", _grid(definition))] if definition.grid else []
    sections += [("[axes]", axes)] if axes else []
    sections += [("[[baselines]]", cell) for cell in baselines]
    of_objective = {"[training]": study.used_training, "[settings]": definition.user_settings}
    sections += [(heading, section) for heading, section in of_objective.items() if section]
    sections += [(f"[{key}]", section) for key, section in settings.sections().items()]
    sections += [("[[published]]", published.model_dump()) for published in study.published]
    given = [{key: value for key, value in claim.model_dump().items() if value} for claim in study.claims]
    sections += [("[[claims]]", claim) for claim in given]
    sections += [("[[analyses]]", analysis_table(each)) for each in study.analyses]
    for heading, section in sections:
        lines += ["", heading, *_pairs(section)]
    return "\n".join(lines)


def _metrics(metrics: Sequence[Metric]) -> dict[str, Any]:
    if tuple(metrics) == DEFAULT_METRICS:
        return {}
    names, directions = [each.name for each in metrics], [each.direction for each in metrics]
    if len(metrics) == 1:
        return {"metric": names[0], "direction": directions[0]}
    return {"metrics": names, "directions": directions}


def as_toml(content: Mapping[str, Any]) -> str:
    """The content of a study file as TOML."""
    return "\n".join([*_pairs(content), ""])


def _grid(definition: StoredDefinition) -> dict[str, Any]:
    """The axes that are lists, with the values of names and with conditions."""
    found: dict[str, Any] = {}
    for axis, values in definition.grid.items():
        named, when = null_spelled(definition.named.get(axis, {})), definition.when.get(axis)
        if list(named) == list(values):
            found[axis] = _with_condition({"values": named}, when)
        elif named:
            found[axis] = _with_condition({"values": values, "named": named}, when)
        else:
            found[axis] = values if when is None else {"values": values, "when": when}
    return found


def _with_condition(axis: dict[str, Any], when: Any) -> dict[str, Any]:
    return axis if when is None else {**axis, "when": when}


def _pairs(section: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in section.items() if value is not None]


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").replace("-", "").isalnum() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_pairs(value)) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    # JSON's strings, numbers and booleans are valid TOML, except for the control character 0x7f.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
