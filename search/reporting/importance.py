"""How much each axis of a sampled study matters, as Optuna estimates it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape
from optuna.distributions import BaseDistribution

from search.reporting.charts import svg
from search.statistics.ranking import Row

# With fewer cells the estimate is mostly chance.
MIN_CELLS = 20
# With more, of which it uses all, the page would wait for it.
MOST_CELLS = 2_000
MOST_AXES = 12
WIDTH, LABEL, ROW = 480, 150, 26


def importances(distributions: Mapping[str, BaseDistribution], rows: Sequence[Row]) -> Mapping[str, float]:
    """The share of each axis in what tells the best tenth of the cells from the others, the largest first.

    Args:
        distributions: Of the axes, by name.
        rows: With a rank and a finite value.

    Returns:
        Empty with too few or too many cells, with one axis, and if Optuna cannot tell.
    """
    if not MIN_CELLS <= len(rows) <= MOST_CELLS:
        return {}
    import optuna  # slow to import

    varied = {name for name in distributions if len({repr(row.cell.get(name)) for row in rows}) > 1}
    study = _study(distributions, varied, rows)
    if len(varied) < 2 or study is None:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = optuna.importance.get_param_importances(study)
        except (ValueError, RuntimeError):
            return {}
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def _study(distributions: Mapping[str, Any], varied: set[str], rows: Sequence[Row]) -> Any:
    """The cells as a study in memory; None if a value does not fit its axis, as one that was enqueued."""
    import optuna

    trials = []
    for row in rows:
        params = {name: value for name, value in row.cell.items() if name in varied}
        try:
            trial = optuna.trial.create_trial(
                params=params,
                distributions={name: distributions[name] for name in params},
                value=row.metric.loss(row.val_loss or 0.0),
            )
        except ValueError:
            continue
        trials.append(trial)
    if len(trials) < MIN_CELLS:
        return None
    said = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it announces the study
    try:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        study.add_trials(trials)
    finally:
        optuna.logging.set_verbosity(said)
    return study


def importance_chart(found: Mapping[str, float], title: str) -> Markup:
    """A bar for each axis."""
    shown = list(found.items())[:MOST_AXES]
    largest = max(value for _, value in shown) or 1.0
    parts = []
    for at, (name, value) in enumerate(shown):
        y, width = ROW * at + 4, (WIDTH - LABEL - 60) * value / largest
        short = name if len(name) <= 22 else f"{name[:21]}…"
        parts.append(f'<text class="end" x="{LABEL - 8}" y="{y + 14}">{escape(short)}</text>')
        parts.append(f'<rect class="dot c0" x="{LABEL}" y="{y}" width="{max(width, 1):.1f}" height="{ROW - 7}"/>')
        parts.append(f'<text x="{LABEL + width + 6:.1f}" y="{y + 14}">{100 * value:.0f} %</text>')
    return svg(WIDTH, ROW * len(shown) + 8, title, "".join(parts))
