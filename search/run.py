"""`python -m search.run`: plan a study, train it in parallel workers, print the ranked table."""

from __future__ import annotations

if __name__ == "__main__":
    from search.workers.stop_signals import end_at_stop_signals

    end_at_stop_signals("run")
    # The first worker imports at the same time as this process.
    import gc
    import sys

    from search.launchers.spare_worker import start_early

    start_early(sys.argv[1:])
    gc.disable()  # until all is imported

import gc
import logging
import shlex
import sys
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

from search.command_line import new_program
from search.errors import EXIT_FAILED_TRIALS, EXIT_INTERRUPTED, EXIT_STOPPED, user_errors
from search.hints import command_of
from search.imports import importing_ours, without_blas_threads
from search.launchers.spare_worker import end_early, spare_worker
from search.options import RunOptions
from search.streams import terminal_width, write_line
from search.workers.stop_signals import INTERRUPTED, end_at_stop_signals

if TYPE_CHECKING:
    from search.reporting.study_result import StudyResult


def run(options: RunOptions) -> None:
    """Train every cell of a study in parallel workers.

    Run the same command again to resume an interrupted study.
    """
    end_at_stop_signals("run")
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    if options.print:
        with user_errors():
            from search.service import preview

            write_line(preview(options))
        return
    is_local = options.launcher in (None, "local") and not options.plan_only
    if not is_local:
        end_early()
    with user_errors(), spare_worker(options.devices) if is_local else nullcontext() as spare:
        with importing_ours(), without_blas_threads():
            from search.service import run_with_options

        gc.enable()
        result = run_with_options(options, spare=spare, is_whole_process=True)
    _print(result, options.study, options.json)
    if options.profile:
        from search.workers.profile import as_text

        write_line(f"time by kind of work, all workers:\n{as_text(result.profile)}", sys.stderr)
    raise SystemExit(result.exit_code)


def _print(result: StudyResult, named: str, as_json: bool) -> None:
    from search.reporting.confirmation_text import sentences
    from search.reporting.cost_text import estimate_line
    from search.reporting.missing_text import budget_line, not_run_line, target_sentence
    from search.reporting.tables import as_json as to_json
    from search.reporting.tables import as_markdown
    from search.reporting.terminal_table import as_terminal_table
    from search.storage.url import display_url

    shown = display_url(result.storage)
    if as_json:
        facts = {"study": result.study, "storage": shown, "counts": result.counts, "seconds": result.seconds}
        if result.target is not None:
            facts |= {"target": result.target, "target_reached": result.target_reached}
        if result.budget is not None and result.spent is not None:
            facts |= {"budget": result.budget.as_dict(), "spent": asdict(result.spent)}
        if result.estimate is not None:
            facts |= {"estimate": asdict(result.estimate)}
        if result.confirmation is not None:
            facts |= {"confirmation": result.confirmation.as_dict()}
        write_line(to_json(result.rows, facts))
        return
    if any(row.val_loss is not None for row in result.rows):
        write_line(as_terminal_table(result.rows, width) if (width := terminal_width()) else as_markdown(result.rows))
    ended = ", ".join(f"{count} {state}" for state, count in result.counts.items() if count)
    lines = ["", f"{result.study}: {ended}; {result.seconds:.1f} s"]
    if line := estimate_line(result.estimate):
        lines.append(f"estimate: {line}")
    if sentence := target_sentence(result.target, result.rows):
        lines.append(sentence)
    if result.confirmation is not None:
        lines += sentences(result.confirmation)
    lines += filter(None, [budget_line(result.budget, result.spent, result.counts), not_run_line(result.counts, named)])
    of_study = f"--study {result.study} --storage {shlex.quote(shown)}"
    if result.exit_code == EXIT_FAILED_TRIALS:
        lines.append(f"why:    {command_of('status')} {of_study}")
    if result.exit_code in (EXIT_INTERRUPTED, EXIT_STOPPED):
        # What a budget leaves out has its own line.
        lines += [INTERRUPTED] if result.counts["waiting"] + result.counts["running"] else []
    else:
        lines += result.closing_lines()
    lines.append(f"report: {command_of('report')} {of_study}")
    lines.append(f"browse: {command_of('dashboard')} --storage {shlex.quote(shown)}")
    write_line("\n".join(lines), sys.stderr)


EXAMPLES = (
    ("the built-in study, on all cores or GPUs", "--study bigram"),
    ("your study, three seeds a cell, watched in a browser", "--study my_study.toml --seeds 3 --dashboard"),
)
app = new_program(run, RunOptions, EXAMPLES)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
