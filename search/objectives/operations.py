"""The interface of objectives that know what a trial takes before it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from search.objectives.corpus import Corpus
from search.objectives.settings import TrainingSettings


@runtime_checkable
class CountsOperations(Protocol):
    """An objective that can count the floating-point operations of a trial."""

    def operations(self, cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus | None) -> float | None:
        """The floating-point operations of a trial that is trained to its end; None if they cannot be counted.

        Args:
            cell: A value for each axis.
            settings: What applies where the cell has no value.
            corpus: The text; None if the objective takes none.
        """
        ...
