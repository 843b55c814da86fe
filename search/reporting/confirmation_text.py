"""A confirmation in words: for the report, its page, and the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search.reporting.escapes import markdown_text
from search.statistics.answers import Verdict
from search.study.formatting import count_text, describe_cell, loss_text

if TYPE_CHECKING:
    from search.statistics.confirmation import ConfirmationResult, ConfirmedCell, Estimate


def sentences(result: ConfirmationResult, digits: Mapping[str, int] | None = None) -> list[str]:
    """What a reader learns from a confirmation, one sentence each.

    Args:
        digits: The digits that tell the values of an axis apart.
    """
    found = [_subject(result, digits), *_comparison(result, digits), *_optimism(result)]
    found += [sentence for each in result.cells if (sentence := _unfinished(each, digits))]
    if not result.is_current:
        found.append("The study has changed since this confirmation; run it with --confirm again.")
    return found


def confirmation_as_markdown(result: ConfirmationResult, digits: Mapping[str, int] | None = None) -> str:
    """A section of the report."""
    rows = [(markdown_text(describe_cell(each.cell, digits)), each) for each in result.cells]
    lines = ["## Confirmation", "", *(f"- {markdown_text(sentence)}" for sentence in sentences(result, digits)), ""]
    titles = ["cell", *(title for title, _ in columns(result))]
    lines += [f"| {' | '.join(titles)} |", f"| --- |{' ---: |' * (len(titles) - 1)}"]
    lines += [f"| {name} | {' | '.join(texts_of(result, each))} |" for name, each in rows]
    return "\n".join([*lines, ""])


def columns(result: ConfirmationResult) -> list[tuple[str, str]]:
    """The title and the kind of each column of the table besides the cell."""
    same = "the same text" if result.has_corpus else "as selected"
    found = [("selected by", "selected")]
    found += [(f"fresh seeds, {same}", "same_text")] if any(each.same_text for each in result.cells) else []
    found += [(f"fresh seeds, {result.text}", "value")] if result.text is not None else []
    return [*found, ("seeds", "seeds")]


def texts_of(result: ConfirmationResult, cell: ConfirmedCell) -> list[str]:
    """A cell's texts in `columns`."""
    texts = {
        "selected": loss_text(cell.selected),
        "same_text": _estimate(cell.same_text),
        "value": _estimate(cell.value),
        "seeds": f"{cell.seeds}/{cell.planned}",
    }
    return [texts[kind] for _, kind in columns(result)]


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return loss_text(estimate.mean, 4) + ("" if estimate.half is None else f" ± {loss_text(estimate.half, 4)}")


def _subject(result: ConfirmationResult, digits: Mapping[str, int] | None) -> str:
    winner, label = result.winner, result.metric.label
    on = f" on {result.text}, a text that no cell was selected on" if result.text is not None else ""
    if result.text is None and result.has_corpus:
        on = " on the text that the cells were selected on"
    named = f"the best cell, {describe_cell(winner.cell, digits)},"
    if winner.value is None:
        return f"Fresh seeds are to confirm {named}{on}; none of them is complete yet."
    held_out = "loss" if result.text is not None and label == "validation loss" else label
    return f"With {count_text(winner.seeds, 'fresh seed')} {named} has a {held_out} of {_estimate(winner.value)}{on}."


def _comparison(result: ConfirmationResult, digits: Mapping[str, int] | None) -> list[str]:
    if result.runner_up is None or result.verdict is None:
        return []
    question = f"Is it better there than the runner-up, {describe_cell(result.runner_up.cell, digits)}?"
    answer = f"{result.verdict.capitalize()}{f' ({result.reason})' if result.reason else ''}"
    difference = result.difference
    if difference is None:
        return [f"{question} {answer}."]
    if result.verdict is Verdict.CANNOT_TELL:
        by = f"{loss_text(abs(difference.mean), 4)}{_interval(difference)}"
        return [f"{question} {answer}: the difference is {by}, and chance alone can make one as large."]
    side = "better" if difference.mean > 0 else "worse"
    return [f"{question} {answer}: it is {side} by {loss_text(abs(difference.mean), 4)}{_interval(difference)}."]


def _interval(estimate: Estimate) -> str:
    """The 95 % interval of the size of a difference; "" without one."""
    if estimate.low is None or estimate.high is None:
        return ""
    low, high = (estimate.low, estimate.high) if estimate.mean > 0 else (-estimate.high, -estimate.low)
    return f" [{loss_text(low, 4)}, {loss_text(high, 4)}]"


def _optimism(result: ConfirmationResult) -> list[str]:
    optimism, winner = result.optimism, result.winner
    if optimism is None or winner.same_text is None:
        return []
    where = "On the text that it was selected on, its" if result.text is not None else "Its"
    start = (
        f"{where} fresh seeds have {_estimate(winner.same_text)}, in the study it had {loss_text(winner.selected, 4)}"
    )
    if optimism.mean <= 0:
        return [f"{start}: the selection has not flattered it."]
    return [f"{start}: the selection has flattered it by {loss_text(optimism.mean, 4)}{_interval(optimism)}."]


def _unfinished(cell: ConfirmedCell, digits: Mapping[str, int] | None) -> str:
    if cell.seeds == cell.planned:
        return ""
    states = ", ".join(f"{count} {state}" for state, count in sorted(cell.others.items()))
    return f"{cell.seeds} of {cell.planned} fresh seeds of {describe_cell(cell.cell, digits)} are complete ({states})."
