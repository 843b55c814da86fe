"""The means over seeds of what trials report besides the metric that ranks them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from search.statistics.inference import mean
from search.storage.metrics import FurtherResults
from search.study.metrics import Metric

TRAIN_LOSS = "train_loss"  # the ranked table has a column for it


def mean_results(results: Sequence[FurtherResults], metrics: Sequence[Metric]) -> dict[str, float]:
    """The means of further objectives, then those of other metrics, by name."""
    objectives = [each.name for each in metrics]
    found: dict[str, list[float]] = {}
    for result in results:
        values = dict(zip(objectives[1:], result.values, strict=False))
        others = {name: value for name, value in result.metrics.items() if name not in (*objectives, TRAIN_LOSS)}
        for name, value in {**others, **values}.items():
            if math.isfinite(value):
                found.setdefault(name, []).append(value)
    names = [*(name for name in objectives[1:] if name in found), *(name for name in found if name not in objectives)]
    return {name: mean(found[name]) for name in names}
