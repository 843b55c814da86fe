"""The report as one HTML page that needs nothing else: no script, no network, images as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from search.reporting.charts import LINE_STYLES, Line, line_chart, timeline
from search.reporting.comparisons import describe
from search.reporting.findings import BEST_LINES, Findings
from search.reporting.heatmaps import RAMP
from search.reporting.ranking import Row
from search.reporting.tables import loss_text, value_text
from search.strategies.warmstart import beside

TEMPLATE = "page.html.jinja"
MOST_ROWS = 200  # of the table and of the comparisons, unless --top says otherwise
OUTCOMES = {"complete": "trained to the end", "pruned": "pruned", "diverged": "diverged", "failed": "failed"}


def as_html(findings: Findings, top: int | None = None) -> str:
    """The page.

    Args:
        top: Rows of the table; None is the best 200.
    """
    loader = PackageLoader("search.reporting", "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(loss=_loss, amount=_amount, duration=_duration, signed=_signed)
    environment.filters.update(describe=describe, value=value_text)
    return environment.get_template(TEMPLATE).render(**_view(findings, top))


def _view(findings: Findings, top: int | None) -> dict[str, Any]:
    leaders = findings.leaders()
    best = findings.ranked[:BEST_LINES]
    rows = findings.rows[: MOST_ROWS if top is None else top]
    axes = {name: None for row in rows for name in row.cell}
    bars = findings.bars()
    return {
        "findings": findings,
        "unit_below": "" if findings.attrs["corpus"] is None else Markup("<small>nats/char.</small>"),
        "summary": summary(findings),
        "rows": rows,
        "axes": sorted(axes, key=lambda name: (name != "model", name != "pe_type")),
        "hidden": len(findings.rows) - len(rows),
        "has_published": any(row.published is not None for row in rows),
        "has_seeds": any(row.trials[1] > 1 for row in rows),
        "heat_maps": findings.heat_maps(),
        "ramp": Markup(", ".join(RAMP)),
        "charts": [
            chart
            for chart in (
                _chart(findings, findings.curves(leaders), "Learning curves: the best of each kind", "training steps"),
                _chart(
                    findings, findings.curves(best), f"Learning curves: the best {len(best)} cells", "training steps"
                ),
            )
            if chart
        ],
        "positions": _chart(
            findings, findings.by_position(leaders), "Loss by position in the context window", "position, characters"
        ),
        "timeline": timeline(bars, "When each trial ran, and how it ended") if bars else None,
        "outcomes": [(name, words) for name, words in OUTCOMES.items() if any(bar.outcome == name for bar in bars)],
        "environments": findings.environments(),
        "samples": findings.samples(leaders),
        "most_comparisons": MOST_ROWS,
    }


def _chart(findings: Findings, lines: Sequence[Line], title: str, x_label: str) -> dict[str, Any] | None:
    if not lines:
        return None
    image = line_chart(lines, title, x_label, f"validation loss, {findings.unit}", findings.floor)
    legend = [(index % LINE_STYLES, line.label) for index, line in enumerate(lines)]
    return {"title": title, "image": image, "legend": legend}


def summary(findings: Findings) -> list[str]:
    """What was tried and found, in sentences for somebody who has never seen the study."""
    definition, grid = findings.attrs["definition"], findings.grid
    varied = {name: values for name, values in grid.items() if len(values) > 1}
    n_cells = len(findings.rows)
    variants = f"{_count(n_cells, 'variant')} ({'cell' if n_cells == 1 else 'cells'})"
    tried = ", ".join(
        [
            *(f"{len(values)} values of {name}" for name, values in varied.items()),
            *(f"{name} from {axis['low']} to {axis['high']}" for name, axis in definition.get("axes", {}).items()),
        ]
    )
    sampler = definition.get("sampler", {}).get("name")
    how = "every combination of" if sampler is None else f"chosen by the sampler {sampler} from"
    # An objective of a person's own need not count the study's steps.
    own = findings.attrs["corpus"] is None
    steps = "" if own else f"; {_amount(definition['training']['max_iters'])} training steps each"
    said = [
        f"{_count(sum(findings.counts.values()), 'trial')} trained {variants} of {_subject(findings)}"
        + (f": {how} {tried}" if tried else "")
        + (f", and {_count(len(findings.baselines), 'baseline')}" if findings.baselines else "")
        + f"{steps}.",
    ]
    ranked = findings.ranked
    if ranked:
        said.append(_winner(findings, ranked[0]))
        verdicts = findings.verdicts
        if verdicts is not None and len(verdicts.tied) > 1:
            labels = [findings.label(cell) for cell in verdicts.tied]
            said.append(
                f"{len(labels)} cells are tied for best, not separable from the winner: {'; '.join(labels[:6])}"
                + ("; and more." if len(labels) > 6 else ".")
            )
        elif verdicts is not None and len(verdicts.tied) == 1 and len(ranked) > 1 and ranked[0].interval is not None:
            said.append("Every other cell that could be compared is worse beyond the luck of the seeds.")
        compared = [row for row in ranked if row.published_inside is not None]
        if compared:
            inside = sum(bool(row.published_inside) for row in compared)
            said.append(f"Published losses inside the range of our seeds: {inside} of {len(compared)}.")
    return said


def _subject(findings: Findings) -> str:
    corpus = findings.attrs["corpus"]
    if corpus is None:
        return f"the objective {findings.attrs['definition']['objective']}"
    return f"a small language model on the text {corpus}"


def _count(number: int, noun: str) -> str:
    return f"{_amount(number)} {noun}{'' if number == 1 else 's'}"


def _winner(findings: Findings, row: Row) -> str:
    spread = "" if row.interval is None else f" ± {_loss(row.interval)} (95 % interval over {row.trials[0]} seeds)"
    said = (
        f"The lowest mean validation loss, {_loss(row.val_loss)}{spread} {findings.unit}, "
        f"has {findings.label(row.cell)}."
    )
    if findings.floor is not None and row.val_loss is not None:
        gap = findings.floor - row.val_loss
        side = "below" if gap > 0 else "above"
        said += f" That is {abs(gap):.4f} {side} {_loss(findings.floor)}, what counting pairs of characters reaches."
    others = beside(findings.attrs, row)
    return f"{said} Beside it: {others}." if others else said


def _loss(value: float | None) -> str:
    return loss_text(value, 4)


def _amount(value: float | None) -> str:
    """A whole number, its thousands set apart by narrow spaces that do not break."""
    return "" if value is None else f"{value:,.0f}".replace(",", "\u202f")


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
