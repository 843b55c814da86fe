"""`python -m search.status`: counts, leases and stale workers of a study; retries failed trials."""

from __future__ import annotations

import sys
import time

from search.command_line import new_program
from search.errors import EXIT_INTERRUPTED, UsageError, user_errors
from search.reading_options import StatusOptions
from search.streams import write_line


def status(options: StatusOptions) -> None:
    """Show the progress of a study, its workers and its failures."""
    with user_errors():
        if options.diff is not None:
            write_line(_difference(options, options.diff))
            return
        from search.reporting.status_text import status_as_json, status_as_text
        from search.storage.queries import counts
        from search.storage.queue import TrialQueue
        from search.study.lookup import open_studies

        database, names = open_studies(
            options.study,
            options.storage,
            options.storage_wait_s,
            baselines=options.baselines,
            confirmation=True,
            of_optuna=not options.retry_failed,
        )
        with database.closing():
            retried = TrialQueue(database).retry_failed(names) if options.retry_failed else None
            as_text = status_as_json if options.json else status_as_text
            shown = as_text(database, names, retried)
            write_line(shown)
            while options.follow and (found := counts(database, names))["waiting"] + found["running"]:
                try:
                    time.sleep(FOLLOW_S)
                except KeyboardInterrupt:
                    raise SystemExit(EXIT_INTERRUPTED) from None
                if (now := as_text(database, names, None)) != shown:
                    shown = now
                    write_line(f"{CLEAR if sys.stdout.isatty() else ''}{shown}")


def _difference(options: StatusOptions, trials: tuple[str, str]) -> str:
    """What differs between two trials, as text or JSON."""
    for name, given in (("--retry-failed", options.retry_failed), ("--follow", options.follow)):
        if given:
            raise UsageError(f"--diff goes without {name}; first compare, then start again with {name} alone")
    from search.reporting.difference_text import trials_as_json, trials_as_text
    from search.study.lookup import open_studies
    from search.study.trial_differences import compare_trials, parse_trial, read_trial

    found = []
    for text in trials:
        study, number = parse_trial(text, options.study)
        database, [name] = open_studies(study, options.storage, options.storage_wait_s, baselines=False, of_optuna=True)
        with database.closing():
            found.append(read_trial(database, name, number))
    differences = compare_trials(*found)
    return trials_as_json(differences) if options.json else trials_as_text(differences)


FOLLOW_S = 2.0
CLEAR = "\x1b[2J\x1b[H"  # the terminal
EXAMPLES = (
    ("show the progress of the study", "--study bigram"),
    ("retry the failed trials", "--study bigram --retry-failed"),
)
app = new_program(status, StatusOptions, EXAMPLES, short=True)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
