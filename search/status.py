"""`python -m search.status`: counts, leases and stale workers of a study; retries failed trials."""

from __future__ import annotations

from search.command_line import new_program
from search.errors import user_errors
from search.options import StatusOptions
from search.streams import write_line


def status(options: StatusOptions) -> None:
    """Show the progress of a study, its workers and its failures."""
    with user_errors():
        from search.reporting.status_text import status_as_json, status_as_text
        from search.storage.queue import TrialQueue
        from search.study.lookup import open_studies

        database, names = open_studies(
            options.study,
            options.storage,
            options.storage_wait_s,
            baselines=options.baselines,
            of_optuna=not options.retry_failed,
        )
        with database.closing():
            retried = TrialQueue(database).retry_failed(names) if options.retry_failed else None
            as_text = status_as_json if options.json else status_as_text
            write_line(as_text(database, names, retried))


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
