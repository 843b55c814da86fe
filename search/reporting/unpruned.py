"""A warning, once, about a pruner that never gets anything to judge."""

from __future__ import annotations

import logging

from search.objectives.registry import COMMAND
from search.reporting.progress import Snapshot
from search.study.definition import StudyDefinition
from search.study.pruner_settings import PrunerSettings
from search.study.search_space import OPTUNAS_PRUNER

log = logging.getLogger("search")

# With fewer complete trials a few that ended at once could be all.
ENOUGH = 3


class IdlePruner:
    """Looks whether the trials of a run report steps, if its study asks for a pruner.

    Args:
        definition: The study.
    """

    def __init__(self, definition: StudyDefinition) -> None:
        is_default = definition.suggests_parameters and definition.pruner == PrunerSettings(name=OPTUNAS_PRUNER)
        # A function may log the metric that is judged, and report nothing.
        may_log = definition.objective != COMMAND and definition.pruner.metric is not None
        is_asked = "pruner" in definition.model_fields_set and not is_default and not may_log
        self._pruner = definition.pruner.name if is_asked else "none"
        self._is_command = definition.objective == COMMAND

    def look(self, snapshot: Snapshot, *, is_last: bool = False) -> None:
        """Log the warning if it is due.

        Args:
            is_last: Whether no trial of this run follows.
        """
        complete = [trial for trial in snapshot.ended if trial.state == "complete"]
        if self._pruner == "none" or len(complete) < (1 if is_last else ENOUGH):
            return
        # A program without steps counts as one step.
        if all((trial.step or 0) <= 1 for trial in complete):
            how = (
                'print a step with each value, such as step=1 val_loss=0.5, or name it in [settings]: step = "…"'
                if self._is_command
                else "yield step, value, or call trial.report(value, step)"
            )
            log.warning(
                "warning: the pruner %s has nothing to judge: no finished trial has reported more than one step; %s",
                self._pruner,
                how,
            )
        self._pruner = "none"
