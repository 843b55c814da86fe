"""Which number of a line is the program's step."""

from __future__ import annotations

from search.objectives.command.metric_lines import COMMON_NAMES, Row


class StepName:
    """Finds the step in the rows of one file; without a given name the first row with the metric decides.

    Args:
        given: What the study file calls the step; None takes one of `COMMON_NAMES`.
        metric: The study's metric.
    """

    def __init__(self, given: str | None, metric: str) -> None:
        self._metric = metric
        self._name, self._is_decided = given or "", given is not None

    def of(self, row: Row) -> str | None:
        """The name of a row's step; None if it has none."""
        if self._is_decided:
            return self._name if self._name in row else None
        lower = {name.lower(): name for name in reversed(row) if name != self._metric}
        names = [lower[name] for name in COMMON_NAMES if name in lower]
        # A fraction of an epoch counts nothing, so a program that prints only those has no steps.
        found = next((name for name in names if row[name].is_integer()), None)
        if names and self._metric in row:
            self._name, self._is_decided = found or "", True
        return found
