"""The work of all contenders of `benchmarks.compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search.study.definition import load_definition

FULL_LENGTH = 5000  # steps of a trial in the study `bigram`


def the_cells(settings: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The baselines and the grid of the study `bigram`.

    Args:
        settings: "axis=value,value" texts that override axes of the grid.
    """
    definition = load_definition("bigram", settings)
    return [*definition.baselines, *definition.cells]


@dataclass(frozen=True)
class Task:
    """Some cells, trained for some steps, with one seed.

    Attributes:
        settings: Overrides of the grid's axes, as `--set` takes them; the baselines stay.
        max_iters: Steps of a trial.
        device: Where the contenders train; this service chooses for itself.
    """

    settings: tuple[str, ...] = ()
    max_iters: int = FULL_LENGTH
    device: str = "cpu"

    @property
    def cells(self) -> list[dict[str, Any]]:
        """What is trained."""
        return the_cells(self.settings)

    def check(self) -> None:
        """Raises:
        UsageError: A setting is not one of the study's axes and its values.
        """
        load_definition("bigram", self.settings)

    @property
    def eval_interval(self) -> int:
        """Steps between evaluations: a tenth of the length, so that their share stays that of a full run."""
        return max(1, self.max_iters // 10)

    def as_json(self) -> str:
        """The fields as text, which `benchmarks.compare.whole_runs` reads."""
        return json.dumps(asdict(self))

    def service_arguments(self) -> list[str]:
        """The same work as arguments of `python -m search.run`."""
        lengths = () if self.max_iters == FULL_LENGTH else (self._set("max_iters"), self._set("eval_interval"))
        return [word for setting in (*self.settings, *lengths) for word in ("--set", setting)]

    def _set(self, name: str) -> str:
        return f"{name}={getattr(self, name)}"
