"""The verdicts of a stored study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from search.statistics.answers import Verdict
from search.statistics.claim_answers import Answer, claimed_levels
from search.statistics.conditions import conditions_text, held_fixed, moves_along
from search.statistics.losses import Losses, losses_of
from search.statistics.outlook import OpenQuestion, outlook, rules_of
from search.statistics.ranking import Row
from search.statistics.verdicts import Verdicts, decide
from search.storage.queries import TrialSummary
from search.storage.values import canonical
from search.study.claims import Claim
from search.study.formatting import count_text, loss_text
from search.study.stored import StoredStudy


def judge(trials: Sequence[TrialSummary], stored: StoredStudy, rows: Sequence[Row]) -> Verdicts:
    """The verdicts of a study.

    Args:
        trials: Its trials, and those of its sibling with the baselines if that is included.
        stored: The study.
        rows: Its ranked table, so that the table and the verdicts name the same best cell.
    """
    metric = stored.definition.metric
    own = [trial for trial in trials if trial.study == stored.name]
    grid = losses_of(own, metric, is_drawn=stored.is_drawn)
    everything = grid if len(own) == len(trials) else losses_of(trials, metric, is_drawn=stored.is_drawn)
    ranked = [canonical(row.cell) for row in rows if row.rank is not None]
    verdicts = decide(grid, everything, stored.claims, (), ranked=ranked, margin=stored.equivalence_margin)
    undecidable = _undecidable(stored, rows, grid, everything)
    answers = tuple(
        replace(_closed(answer, undecidable), conditions=_conditions(claim, stored, rows))
        for answer, claim in zip(verdicts.answers, stored.claims, strict=True)
    )
    return replace(verdicts, answers=answers, notes=tuple(_notes(stored, grid, verdicts)))


def _undecidable(
    stored: StoredStudy, rows: Sequence[Row], grid: Losses, everything: Losses
) -> Mapping[str, str] | None:
    """Why open claims stay open, by their text; None unless a search with automatic seeds has ended."""
    rules = rules_of(stored)
    if rules is None or any(row.state in ("waiting", "running") for row in rows):
        return None
    seconds = {canonical(row.cell): row.seconds for row in rows if row.seconds is not None}
    found = outlook(grid, everything, rules, seconds)
    if found.next:  # the next seeds are not planned yet
        return None
    return {each.text: _needed(each, found.left) for each in found.needs}


def _needed(each: OpenQuestion, left: int) -> str:
    if each.trials is None:
        return "even the most seeds a cell may have would not show a difference this small"
    return f"about {each.trials} more trials would be needed, and the budget leaves {left}"


def _closed(answer: Answer, undecidable: Mapping[str, str] | None) -> Answer:
    """An answer that stays open for good."""
    if undecidable is None or answer.verdict is not Verdict.CANNOT_TELL:
        return answer
    reason = undecidable.get(answer.claim, answer.detail)
    return replace(answer, verdict=Verdict.UNDECIDABLE, detail=reason)


def _conditions(claim: Claim, stored: StoredStudy, rows: Sequence[Row]) -> str:
    return conditions_text(held_fixed(stored), moves_along(claimed_levels(claim), rows))


def _notes(stored: StoredStudy, losses: Losses, verdicts: Verdicts) -> list[str]:
    """What the results cannot show, and why."""
    # Nothing can be advised about a study that lm-search cannot run.
    is_ours = not stored.is_made_by_optuna
    takes_seeds = is_ours and not stored.definition.suggests_parameters
    notes = []
    most = int(losses.count.max(initial=0))
    if most == 0:
        notes.append("No trial is complete yet, so there is nothing to compare.")
    elif most == 1:
        advice = " Run the study with --seeds auto." if takes_seeds and stored.definition.sampler is None else ""
        notes.append(f"Each cell has one seed, so no difference can be separated from chance.{advice}")
    elif most == 2:
        notes.append(
            "No cell has more than two seeds: how much a single cell varies is mostly taken from the other cells."
        )
    notes += _lost(losses, is_ours)
    left = sum(each.get("waiting", 0) + each.get("running", 0) for each in losses.others)
    if left:
        notes.append(f"{count_text(left, 'trial has', 'trials have')} not ended yet.")
    for each in verdicts.modes:
        low, high = (loss_text(value, 4) for value in (each.low, each.high))
        notes.append(
            f"The seeds of {losses.describe('cell', each.cell)} end in two places, near {low} ({each.seeds[0]}) and "
            f"near {high} ({each.seeds[1]}): no run ends at their mean."
        )
    return notes


def _lost(losses: Losses, is_ours: bool) -> list[str]:
    notes = []
    pruned = sum(each.get("pruned", 0) for each in losses.others)
    if pruned:
        cells = count_text(int(losses.pruned.sum()), "cell")
        notes.append(
            f"{count_text(pruned, 'trial was', 'trials were')} pruned, in {cells}: they did worse than others at some "
            "step, and how they would have ended is unknown. Nothing that needs such a cell is answered, and the best "
            "cell is the best of the others." + (" To answer it, run the study with --pruner none." if is_ours else "")
        )
    bad = sum(each.get("diverged", 0) + each.get("failed", 0) for each in losses.others)
    if bad:
        cells = count_text(int(losses.diverged.sum()), "cell")
        notes.append(f"{count_text(bad, 'trial')} diverged or failed, in {cells}: that counts as worse than any value.")
    return notes
