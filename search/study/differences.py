"""What differs between two things that were recorded: two studies, or two trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.storage.values import canonical, compact_json
from search.study.claims import Claim
from search.study.stored import StoredStudy

VERSIONS = ("lm-search", "torch", "numpy", "optuna", "python")
MACHINE = ("system", "machine", "processor", "device", "gpu", "threads")
# The parts of a stored definition that have groups of their own; all others are its search space.
_NOT_SPACE = ("training", "settings", "objective", "corpus_sha256", "metrics")


@dataclass(frozen=True)
class Difference:
    """Something that differs.

    Attributes:
        group: What it belongs to, such as "training" or "versions".
        name: Its name in the group.
        first, second: Its values; None where it is not set.
    """

    group: str
    name: str
    first: Any
    second: Any


def differing(group: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """What differs between two mappings; 1 and 1.0 are equal, and so are a missing key and None."""
    return [
        Difference(group, name, first.get(name), second.get(name))
        for name in {**first, **second}
        if canonical(first.get(name)) != canonical(second.get(name))
    ]


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with names such as "pruner.name"."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        found.update(flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return found


def provenance_facts(environment: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a trial ran on, by group: code, versions, machine.

    Args:
        environment: Its record; empty without one.
    """
    names = {"code": ("code",), "versions": VERSIONS, "machine": MACHINE}
    return {group: {name: environment.get(name) for name in each} for group, each in names.items()}


def study_facts(study: StoredStudy) -> dict[str, dict[str, Any]]:
    """All that a study was planned with, by group, such as "training"."""
    definition = study.definition
    settings = {
        "objective": definition.objective or None,
        "metrics": ", ".join(f"{each.name} ({each.direction})" for each in definition.metrics),
        "corpus": study.corpus,
        "corpus_sha256": definition.corpus_sha256,
    }
    plan = {"seeds": study.seeds, "first_seed": study.first_seed, "trials": study.trials, "target": study.target}
    warm_start = None if study.warm_start is None else study.warm_start.study
    space = {key: value for key, value in definition.as_stored.items() if key not in _NOT_SPACE}
    sections = {name: flat(section) for name, section in study.settings.sections().items()}
    return {
        "objective": settings,
        "training": dict(study.used_training),
        "settings": flat(definition.user_settings),
        "search space": flat(space),
        "plan": {**plan, "from": warm_start},
        **sections,
        "claims": {_claim_text(claim): "claimed" for claim in study.claims},
        "published": {canonical(each.cell): each.val_loss for each in study.published},
    }


def _claim_text(claim: Claim) -> str:
    return claim.text or compact_json({name: value for name, value in claim.model_dump().items() if value})


def fact_differences(
    first: Mapping[str, Mapping[str, Any]], second: Mapping[str, Mapping[str, Any]]
) -> list[Difference]:
    """What differs between two things, group by group."""
    groups: Sequence[str] = list({**first, **second})
    return [each for group in groups for each in differing(group, first.get(group, {}), second.get(group, {}))]
