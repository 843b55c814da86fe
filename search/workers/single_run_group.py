"""One run with the interface of a group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search.objectives.protocol import Evaluation, TrainingRun


class SingleRunGroup:
    """A group of one run."""

    def __init__(self, run: TrainingRun) -> None:
        self._run = run

    def advance(self, should_stop: Callable[[], bool]) -> list[tuple[TrainingRun, Evaluation]]:
        """See `search.objectives.protocol.RunGroup`."""
        evaluation = self._run.advance(should_stop)
        return [] if evaluation is None else [(self._run, evaluation)]

    def remove(self, leavers: Sequence[TrainingRun]) -> None:
        """Do nothing: a group of one has no other runs."""
