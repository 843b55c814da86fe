"""`python -m search.status`: counts, leases and stale workers of a study; puts failed trials back."""

from __future__ import annotations

from search.command_line import new_program
from search.errors import user_errors
from search.options import StatusOptions


def status(options: StatusOptions) -> None:
    """Say how far a study is, who works on it, and what went wrong."""
    with user_errors():
        from search.reporting.status_text import status_as_json, status_as_text
        from search.storage.queue import TrialQueue
        from search.study.lookup import open_studies

        database, names = open_studies(
            options.study, options.storage, options.storage_wait_s, baselines=options.baselines
        )
        with database.closing():
            retried = TrialQueue(database).retry_failed(names) if options.retry_failed else None
            shown = status_as_json if options.json else status_as_text
            print(shown(database, names, retried))


EXAMPLES = (
    ("how far the study is", "--study bigram"),
    ("try the failed trials again", "--study bigram --retry-failed"),
)
app = new_program(status, StatusOptions, EXAMPLES, short=True)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
