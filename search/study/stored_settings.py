"""The part of a stored study that may change between two starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.study.cost_settings import CostSettings
from search.study.pruner_settings import PrunerSettings
from search.study.search_space import AutoSeedsSettings
from search.study.worker_settings import WorkerSettings


@dataclass(frozen=True)
class StoredSettings:
    """The part of a study that may change between two starts."""

    pruner: PrunerSettings
    workers: WorkerSettings
    auto_seeds: AutoSeedsSettings | None
    cost: CostSettings

    def sections(self) -> Mapping[str, Mapping[str, Any]]:
        """The sections of a study file, by name."""
        all_sections = {"pruner": self.pruner, "workers": self.workers, "auto_seeds": self.auto_seeds}
        found = {name: section.model_dump() for name, section in all_sections.items() if section is not None}
        return {**found, **({"cost": cost} if (cost := self.cost.given()) else {})}


def parse_settings(stored: Mapping[str, Any]) -> StoredSettings:
    """The settings from their JSON."""
    # As earlier versions called it.
    rules = stored.get("auto_seeds", stored.get("racing"))
    return StoredSettings(
        pruner=PrunerSettings.model_validate(stored.get("pruner", {})),
        workers=WorkerSettings.model_validate(stored.get("workers", {})),
        auto_seeds=None if rules is None else AutoSeedsSettings.model_validate(rules),
        cost=CostSettings.model_validate(stored.get("cost", {})),
    )
