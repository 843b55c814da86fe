"""`python -m search.status`: counts, leases and stale workers of a study; puts failed trials back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from search import options
from search.errors import user_errors

if TYPE_CHECKING:
    pass

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def status(
    study: options.StudyOption,
    storage: options.StorageOption = options.DEFAULT_STORAGE,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Put failed trials back first.")] = False,
    baselines: options.BaselinesOption = True,
    storage_wait: options.StorageWaitOption = options.DEFAULT_STORAGE_WAIT_S,
    as_json: options.JsonOption = False,
) -> None:
    """Say how far a study is, who works on it, and what went wrong."""
    with user_errors():
        from search.reporting.status_text import status_as_json, status_as_text
        from search.storage.queue import TrialQueue
        from search.study.lookup import open_studies

        database, names = open_studies(study, storage, storage_wait, baselines=baselines)
        with database.closing():
            retried = TrialQueue(database).retry_failed(names) if retry_failed else None
            print(status_as_json(database, names, retried) if as_json else status_as_text(database, names, retried))


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
