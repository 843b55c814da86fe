"""What to run next: the open questions of a study, each with the command that answers it."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.hints import command_of
from search.statistics.answers import Verdict
from search.statistics.ranking import Row
from search.statistics.verdicts import Verdicts
from search.storage.left_out import OVER_BUDGET
from search.storage.schema import NOT_RUN
from search.study.formatting import count_text
from search.study.stored import StoredStudy
from search.study.study_file import builtin_studies

# Fresh seeds of a confirmation.
CONFIRM_SEEDS = 3
# The file of the database that programs use by default.
DEFAULT_FILE = "sqlite:///search.db"
DEFAULT_CORPUS = "tinyshakespeare"


@dataclass(frozen=True)
class NextStep:
    """Something to do.

    Attributes:
        why: What it answers, as a sentence.
        command: The command line; "" if no command does it.
    """

    why: str
    command: str = ""


def study_argument(stored: StoredStudy) -> str:
    """The study for `--study`: its name if it is a built-in one that nobody changed, else the name of its file."""
    if stored.name in builtin_studies():
        from search.study.definition import load_definition  # slow to import

        builtin, stored_one = load_definition(stored.name), stored.definition
        is_same_space = builtin.grid == stored_one.grid and builtin.axes == stored_one.axes
        if is_same_space and builtin.training == stored_one.training:
            return stored.name
    return f"{stored.name}.toml"


def _planned_with(stored: StoredStudy, *, with_baselines: bool = False) -> str:
    """The arguments of `run` that plan the study again, perhaps with baselines that were left out."""
    if stored.arguments:
        return shlex.join(each for each in stored.arguments if not (with_baselines and each == "--no-baselines"))
    corpus = [] if stored.corpus in (None, DEFAULT_CORPUS) else ["--corpus", str(stored.corpus)]
    return shlex.join(["--study", study_argument(stored), *corpus])


def next_steps(
    stored: StoredStudy,
    counts: Mapping[str, int],
    rows: Sequence[Row],
    verdicts: Verdicts | None,
    storage: str,
    *,
    is_confirmed: bool = False,
) -> list[NextStep]:
    """What to do, the most urgent first.

    Args:
        counts: The number of trials by state.
        rows: The ranked table.
        verdicts: None if they were not made.
        storage: The URL of the database, without a password.
        is_confirmed: Whether the best cell has fresh seeds.
    """
    if stored.is_made_by_optuna:
        return _of_optuna(counts, rows)
    database = ""
    if ":***@" in storage:
        database = ' --storage "$SEARCH_STORAGE"'  # a password is in the URL, and no report has one
    elif storage != DEFAULT_FILE:
        database = f" --storage {shlex.quote(storage)}"
    run = f"{command_of('run')} {_planned_with(stored)}{database}"
    status = f"{command_of('status')} --study {shlex.quote(stored.name)}{database}"
    # The trials that are left can be those of the baselines.
    whole = f"{command_of('run')} {_planned_with(stored, with_baselines=True)}{database}"
    return [*_unfinished(counts, whole, status), *_open_questions(stored, rows, verdicts, run, is_confirmed)]


def _of_optuna(counts: Mapping[str, int], rows: Sequence[Row]) -> list[NextStep]:
    if not rows:
        return []
    repeated = any(row.trials[0] > 1 for row in rows)
    luck = "" if repeated else " Train the best cell a few times more before you trust its value: it ran once."
    left = counts["waiting"] + counts["running"]
    going = f"{count_text(left, 'trial has', 'trials have')} not ended yet. " if left else ""
    return [NextStep(f"{going}Optuna made this study, so only your own program can go on with it.{luck}")]


def _unfinished(counts: Mapping[str, int], run: str, status: str) -> list[NextStep]:
    steps = []
    if left := counts["waiting"] + counts["running"]:
        steps.append(NextStep(f"{count_text(left, 'trial has', 'trials have')} not ended yet: finish the study.", run))
    if left := counts.get(NOT_RUN, 0):
        why = (
            f"{count_text(left, 'trial was', 'trials were')} left out when the objective stopped the study: train them."
        )
        steps.append(NextStep(why, f"{run} --resume-stopped"))
    if left := counts.get(OVER_BUDGET, 0):
        why = f"{count_text(left, 'trial was', 'trials were')} left out when the budget was spent: train them."
        steps.append(NextStep(why, run))
    if counts["failed"]:
        why = f"{count_text(counts['failed'], 'trial')} failed: see why; with --retry-failed they run again."
        steps.append(NextStep(why, status))
    return steps


def _open_questions(
    stored: StoredStudy, rows: Sequence[Row], verdicts: Verdicts | None, run: str, is_confirmed: bool
) -> list[NextStep]:
    ranked = [row for row in rows if row.rank is not None]
    if not ranked or verdicts is None:
        return []
    definition, steps = stored.definition, []
    pruned = sum(
        each.verdict is Verdict.NOT_ANSWERABLE and each.detail.startswith("pruned") for each in verdicts.answers
    )
    if pruned:
        why = f"Answer {count_text(pruned, 'claim')} whose trials the pruner stopped: train all, as a study of its own."
        steps.append(NextStep(why, f"{run} --pruner none --name {stored.name}-unpruned"))
    takes_seeds = not definition.suggests_parameters
    if takes_seeds and definition.sampler is None:
        steps += _seeds(ranked, verdicts, run, is_auto=stored.settings.auto_seeds is not None)
    if definition.sampler is not None and stored.trials is not None:
        why = f"Search on: let the sampler choose {stored.trials} cells more."
        steps.append(NextStep(why, f"{run} --set trials={2 * stored.trials}"))
    if takes_seeds and len(definition.metrics) == 1 and len(ranked) > 1 and not is_confirmed:
        text = " and on unseen text" if stored.corpus is not None else ""
        why = f"Confirm the best and its runner-up with fresh seeds{text}: the best of many is partly luck."
        steps.append(NextStep(why, f"{run} --confirm {CONFIRM_SEEDS}"))
    return steps


def _seeds(ranked: Sequence[Row], verdicts: Verdicts, run: str, *, is_auto: bool) -> list[NextStep]:
    """Further seeds, if they can decide anything.

    Args:
        is_auto: Whether the study gives seeds where they decide something. Once it has ended, no claim is open.
    """
    open_claims = sum(each.verdict is Verdict.CANNOT_TELL for each in verdicts.answers)
    beyond = sum(each.verdict is Verdict.UNDECIDABLE for each in verdicts.answers)
    questions = [count_text(open_claims, "open claim")] if open_claims else []
    if len(ranked) > 1 and len(verdicts.candidates) != 1:
        among = len(verdicts.candidates) or len(ranked)
        questions.append(f"which of {among} cells is the best")
    if open_claims or (questions and not is_auto):
        why = f"Decide {' and '.join(questions)}, with seeds where they decide something."
        return [NextStep(why, f"{run} --seeds auto")]
    if beyond or questions:
        what = [count_text(beyond, "claim")] if beyond else []
        most = 2 * statistics.median_low(row.trials[1] for row in ranked)
        why = f"Decide {' and '.join([*what, *questions])}, beyond the budget so far: more seeds of every cell."
        return [NextStep(why, f"{run} --seeds {most}")]
    return []
