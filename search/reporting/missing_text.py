"""Sentences about what a table lacks, and whether a run has reached its target."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from search.hints import command_of
from search.statistics.ranking import Row, best_value, is_reached, metrics_of
from search.storage.left_out import BUDGET_SPENT, OVER_BUDGET, STUDY_STOPPED
from search.storage.schema import NOT_RUN
from search.storage.spending import Budget, Spent
from search.study.budget import spent_text
from search.study.formatting import count_text, loss_text
from search.study.metrics import DEFAULT_METRIC, DEFAULT_NAME, Metric
from search.study.study_file import run_argument

# Why trials of these counts were left out.
_LEFT_OUT = {NOT_RUN: STUDY_STOPPED, OVER_BUDGET: BUDGET_SPENT}
GO_ON = "run the same command again with a larger --budget, or without one"


def target_sentence(target: float | None, rows: Sequence[Row]) -> str:
    """Whether the target of a run is reached; "" without a target.

    Args:
        rows: The ranked table.
    """
    if target is None:
        return ""
    best, metric = best_value(rows), metrics_of(rows)[0]
    reached = "reached" if is_reached(target, rows) else "not reached"
    found = (
        "no trial is complete"
        if best is None
        else f"the {metric.superlative} {metric.short_label} of a trial is {loss_text(best)}"
    )
    return f"The target {target:g} is {reached}: {found}."


def not_run_line(found: Mapping[str, int], study: str) -> str:
    """Why trials were left out, and how to train them; "" without any.

    Args:
        found: The number of trials by state.
        study: Its name, or its file.
    """
    if not (not_run := found.get(NOT_RUN, 0)):
        return ""
    them = "it" if not_run == 1 else "them"
    return (
        f"{not_run} not run: {STUDY_STOPPED}; train {them} with: {command_of('run')} "
        f"--study {shlex.quote(run_argument(study))} --resume-stopped"
    )


def budget_line(budget: Budget | None, spent: Spent | None, found: Mapping[str, int]) -> str:
    """What is spent of a budget, and what it has left out; "" without one.

    Args:
        found: The number of trials by state.
    """
    if budget is None or spent is None:
        return ""
    line = f"budget: {spent_text(spent, budget)} spent"
    if not (left := found.get(OVER_BUDGET, 0)):
        return line
    return f"{line}; {count_text(left, 'trial is', 'trials are')} left: {GO_ON}"


def missing(
    found: Mapping[str, int], rows: Sequence[Row], metric: Metric = DEFAULT_METRIC, *, is_judged: bool = False
) -> list[str]:
    """Sentences about what the table of these trials lacks; empty if it is complete.

    Args:
        found: The number of trials by state.
        rows: The ranked table.
        metric: What ranks the cells.
        is_judged: Whether the notes of the verdicts stand beside it, which say some of it.
    """
    total, sentences = sum(found.values()), []
    plural = "losses" if metric.name == DEFAULT_NAME else "values"
    left_out = {why: found[key] for key, why in _LEFT_OUT.items() if found.get(key)}
    not_run = sum(left_out.values())
    ended = total - found["waiting"] - found["running"] - not_run
    if total == 0:
        return ["This study has no trials."]
    if ended == 0:
        sentences.append(f"None of the {count_text(total, 'trial')} has ended yet, so there is nothing to rank.")
    elif not is_judged and (left := total - ended - not_run):
        sentences.append(f"{left} of {count_text(total, 'trial')} have not ended yet; the ranks may still change.")
    sentences += [
        f"{count} of {count_text(total, 'trial')} {'was' if count == 1 else 'were'} not run: {why}."
        for why, count in left_out.items()
    ]
    if ended and not found["complete"]:
        sentences.append(
            f"No trial was trained to its end, so no cell has a final {metric.short_label} and none is ranked."
        )
    if found["pruned"] and not is_judged:
        sentences.append(
            f"{found['pruned']} of {count_text(total, 'trial')} were pruned (stopped early); their {plural} are not "
            "final and cannot be compared with those of complete trials."
        )
    for state, words in (
        ("failed", "failed with an error"),
        ("diverged", f"diverged (their {metric.short_label} became NaN or infinite)"),
    ):
        if found[state]:
            sentences.append(f"{found[state]} of {count_text(total, 'trial')} {words}.")
    if found["complete"] and not is_judged and all(row.trials[1] <= 1 for row in rows):
        sentences.append("Every cell has one seed, so there are no intervals and small differences may be chance.")
    return sentences


def seeds_sentence(given: Mapping[str, int]) -> str:
    """Where the further seeds of a study with automatic seeds went; "" without any.

    Args:
        given: Trials by question.
    """
    if not given:
        return ""
    most_first = sorted(given.items(), key=lambda each: -each[1])
    shares = "; ".join(f"{count} to: {question.rstrip('.')}" for question, count in most_first)
    return f"Further seeds by question: {shares}."
