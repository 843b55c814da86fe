"""What answers each kind of analysis, and what it answers from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from search.statistics.analysis import AnalysisResult
from search.statistics.measured import Measured
from search.statistics.ranking import Row
from search.statistics.scaling_answer import answer_scaling
from search.statistics.transfer_answer import answer_transfer
from search.study.metrics import Metric

# Adding a kind is one line here; search/study/analyses.py has its settings.
ANSWERS: Mapping[str, Callable[[Any, Sequence[Measured], Metric], AnalysisResult]] = {
    "transfer": answer_transfer,
    "scaling": answer_scaling,
}


def measured(row: Row, axes: Sequence[str], metric: Metric) -> Measured:
    """A row of a ranked table, with the quantities that it has by name."""
    known = {axis: row.cell[axis] for axis in axes} | dict(row.further)
    known |= {"parameters": row.n_params, "tokens": row.tokens, "seconds": row.seconds}
    known |= {"counted_flops": row.flops}
    quantities = {
        name: float(value)
        for name, value in known.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    losses = [metric.loss(value) for value in row.seed_values.values()]
    is_complete = row.state in ("complete", "running", "waiting") and bool(losses)
    return Measured(row.cell, losses, is_complete, quantities)
