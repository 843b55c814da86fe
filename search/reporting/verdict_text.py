"""The verdicts as markdown."""

from __future__ import annotations

from search.statistics.comparisons import Comparison, describe
from search.statistics.verdicts import Verdicts

MAX_TIED = 20


def verdicts_as_markdown(verdicts: Verdicts) -> str:
    """A section with the verdicts on claims, the cells that may be the best, all comparisons, and notes."""
    lines = ["## Verdicts", ""]
    if verdicts.answers:
        lines += ["| claim | verdict | what the results say |", "| --- | --- | --- |"]
        lines += [f"| {each.claim} | **{each.verdict}** | {each.sentence} |" for each in verdicts.answers]
        lines.append("")
    if len(verdicts.tied) > 1:
        lines += ["Not separable from the best, best first:", ""]
        lines += [f"- {describe(cell)}" for cell in verdicts.tied[:MAX_TIED]]
        lines += [f"- and {len(verdicts.tied) - MAX_TIED} more"] if len(verdicts.tied) > MAX_TIED else []
        lines.append("")
    elif verdicts.tied and verdicts.comparisons:
        best = describe(verdicts.tied[0])
        lines += [f"The best cell is separable from all others that could be compared: {best}.", ""]
    if verdicts.comparisons:
        lines += [
            "| factor | lower | higher | difference | 95 % interval | cells agreeing | corrected p | verdict |",
            "| --- | --- | --- | ---: | --- | ---: | ---: | --- |",
        ]
        lines += [_comparison_line(each) for each in verdicts.comparisons]
        lines += [
            "",
            "A difference is the mean difference in validation loss over all pairs of cells that differ only in the "
            "factor, on the same seeds. Intervals and p-values (paired t-test, Benjamini-Hochberg) are over the seeds.",
            "",
        ]
    lines += [f"- {note}" for note in verdicts.notes]
    return "\n".join(lines).rstrip() + "\n"


def _comparison_line(each: Comparison) -> str:
    interval = "" if each.low is None or each.high is None else f"{each.low:.4f} to {each.high:.4f}"
    p = "" if each.p_adjusted is None else f"{each.p_adjusted:.2g}"
    agree = f"{each.cells_agree} of {each.cells}"
    values = f"{each.factor} | {describe(each.better)} | {describe(each.worse)}"
    return f"| {values} | {each.mean:.4f} | {interval} | {agree} | {p} | {each.verdict} |"
