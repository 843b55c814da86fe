"""A planned study as a study file: what is needed to run it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from search.storage.queries import TrialHistory


def study_as_toml(
    name: str,
    attrs: Mapping[str, Any],
    baselines: Sequence[Mapping[str, Any]],
    histories: Sequence[TrialHistory],
) -> str:
    """TOML that `search.run --study FILE` reads as the same study.

    Args:
        attrs: The study's user attributes.
        baselines: The cells of the sibling study.
        histories: Its trials; they say which seeds there are.
    """
    definition = attrs["definition"]
    seeds = sorted({run.cell["seed"] for run in histories if "seed" in run.cell})
    top = {"name": name, "description": attrs["description"], "objective": definition["objective"]}
    if seeds:
        top |= {"seeds": len(seeds), "first_seed": seeds[0]}
    if "racing" in attrs["settings"]:
        top["seeds"] = "adaptive"
    if "sampler" in definition:
        # How many seeds there are depends on how often the sampler chose the same cell.
        top |= {"sampler": definition["sampler"], "trials": attrs["trials"], "seeds": attrs["seeds"]}
    lines = _pairs(top)
    sections: list[tuple[str, Mapping[str, Any]]] = [("[grid]", definition["grid"])]
    sections += [("[axes]", definition["axes"])] if definition.get("axes") else []
    sections += [("[[baselines]]", cell) for cell in baselines]
    sections += [("[training]", definition["training"])]
    sections += [(f"[{key}]", section) for key, section in attrs["settings"].items()]
    sections += [("[[published]]", published) for published in attrs.get("published", [])]
    given = [{key: value for key, value in claim.items() if value} for claim in attrs.get("claims", [])]
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
