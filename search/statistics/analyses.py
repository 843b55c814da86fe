"""The answers to the analyses of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from search.statistics.ranking import Row
from search.study.stored import StoredStudy

if TYPE_CHECKING:
    from search.statistics.analysis import AnalysisResult


def analyse(stored: StoredStudy, rows: Sequence[Row]) -> list[AnalysisResult]:
    """The answers to the analyses of a study, in their order.

    Args:
        rows: Its ranked table; cells of its baselines are left out.
    """
    if not stored.analyses:
        return []
    from search.statistics.analysis_kinds import ANSWERS, measured  # slow to import

    axes, metric = [*stored.definition.grid, *stored.definition.axes], stored.definition.metric
    cells = [measured(row, axes, metric) for row in rows if all(axis in row.cell for axis in axes)]
    return [ANSWERS[each.kind](each, cells, metric) for each in stored.analyses]
