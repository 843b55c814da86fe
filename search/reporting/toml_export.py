"""A planned study as a study file: what is needed to run it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from search.storage.queries import TrialHistory
from search.study.stored import StoredStudy


def study_as_toml(
    study: StoredStudy,
    baselines: Sequence[Mapping[str, Any]],
    histories: Sequence[TrialHistory],
) -> str:
    """TOML that `search.run --study FILE` reads as the same study.

    Args:
        study: The study as it was planned.
        baselines: The cells of the sibling study.
        histories: Its trials; they say which seeds there are.
    """
    definition, settings = study.definition, study.settings
    seeds = sorted({trial.seed for trial in histories})
    top: dict[str, Any] = {"name": study.name, "description": study.description, "objective": definition.objective}
    if seeds:
        top |= {"seeds": len(seeds), "first_seed": seeds[0]}
    if settings.racing is not None:
        top["seeds"] = "adaptive"
    if definition.sampler is not None:
        # How many seeds there are depends on how often the sampler chose the same cell.
        top |= {"sampler": definition.sampler.model_dump(), "trials": study.trials, "seeds": study.seeds}
    lines = _pairs(top)
    axes = {name: axis.model_dump() for name, axis in definition.axes.items()}
    sections: list[tuple[str, Mapping[str, Any]]] = [("[grid]", definition.grid)]
    sections += [("[axes]", axes)] if axes else []
    sections += [("[[baselines]]", cell) for cell in baselines]
    sections += [("[training]", definition.training.model_dump())]
    sections += [(f"[{key}]", section) for key, section in settings.sections().items()]
    sections += [("[[published]]", published.model_dump()) for published in study.published]
    given = [{key: value for key, value in claim.model_dump().items() if value} for claim in study.claims]
    sections += [("[[claims]]", claim) for claim in given]
    for heading, section in sections:
        lines += ["", heading, *_pairs(section)]
    return "\n".join(lines)


def _pairs(section: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in section.items() if value is not None]


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").replace("-", "").isalnum() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_pairs(value)) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    # JSON's strings, numbers and booleans are TOML's, but for the control character 0x7f.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
