"""Two studies compared, in words and cells of a table."""

from __future__ import annotations

from collections.abc import Sequence

from search.statistics.compared_cells import CellComparison, CellResult
from search.statistics.study_comparison import StudyComparison
from search.study.differences import Difference
from search.study.formatting import count_text, describe_cell, difference_text, largest_size, loss_text

INTERVALS = "All intervals of differences hold at once with 95 %. A value's interval is that of its cell alone."
ONLY_CELL = "the only cell"


def cells_text(results: StudyComparison) -> str:
    """How many cells are compared, and how many are not."""
    both, compared = len(results.cells), len(results.compared)
    parts = [f"{count_text(both, 'cell')} in both"]
    parts += [f"{compared} compared"] if compared < both else []
    names = (results.first, results.second)
    parts += [f"{number} only in {name}" for name, number in zip(names, results.only, strict=True) if number]
    return ", ".join(parts)


def equal_text(results: StudyComparison) -> str:
    """Whether trials with the same cell and seed have the same value; "" if there are none."""
    same, pairs = results.equal_trials
    if not pairs:
        return ""
    which = "pair of trials with the same cell and seed", "pairs of trials with the same cell and seed"
    return f"{same} of {count_text(pairs, *which)} {'have' if pairs > 1 else 'has'} the same value"


def caution(differences: Sequence[Difference]) -> str:
    """A warning if the values of two studies may not measure the same; "" if they do."""
    names = [each.name for each in differences if each.group == "objective"]
    if not names:
        return ""
    return f"The studies differ in {' and '.join(names)}, so their values may not measure the same."


def headings(results: StudyComparison) -> list[str]:
    """The columns of the cells."""
    one, other = results.first, results.second
    return ["cell", one, "seeds", other, "seeds", f"{other} minus {one}", "95 % interval", "verdict"]


def lines(results: StudyComparison, shown: Sequence[CellComparison]) -> list[list[str]]:
    """The cells as text, in the order of `headings`."""
    largest = largest_size(value for each in shown for value in (each.difference, each.low, each.high))
    return [
        [
            describe_cell(each.cell, results.digits) or ONLY_CELL,
            result_text(each.first),
            str(each.first.seeds),
            result_text(each.second),
            str(each.second.seeds),
            difference_text(each.difference, 4, largest),
            interval_text(each.low, each.high, largest),
            each.verdict,
        ]
        for each in shown
    ]


def result_text(result: CellResult) -> str:
    """A value with its interval, or why there is none."""
    if result.value is None:
        return result.state
    return loss_text(result.value) + ("" if result.reach is None else f" ± {loss_text(result.reach)}")


def interval_text(low: float | None, high: float | None, largest: float = 0.0) -> str:
    """Both ends of an interval; "" without one."""
    if low is None or high is None:
        return ""
    return f"{difference_text(low, 4, largest)} to {difference_text(high, 4, largest)}"


def mean_text(results: StudyComparison) -> str:
    """The mean difference over the compared cells, with its interval; "" without any."""
    if results.difference is None:
        return ""
    largest = largest_size((results.difference, results.low, results.high))
    interval = interval_text(results.low, results.high, largest).replace(" to ", ", ")
    number = count_text(len(results.compared), "cell")
    mean = (
        f"{results.second} minus {results.first}, mean over {number}: {difference_text(results.difference, 4, largest)}"
    )
    return mean + (f" [{interval}]" if interval else "")
