"""`python -m search.report`: the ranked table of a study, as markdown, CSV, JSON, LaTeX or one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search import options
from search.errors import UsageError, user_errors

if TYPE_CHECKING:
    pass

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
# The formats, and the file names that stand for them.
FORMATS = {"markdown": ".md", "csv": ".csv", "json": ".json", "latex": ".tex", "html": ".html"}


@app.command()
def report(
    study: options.StudyOption,
    storage: options.StorageOption = options.DEFAULT_STORAGE,
    format: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(FORMATS)}.  [default: by the ending of --output, else markdown]",
            metavar="FORMAT",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write to this file.  [default: stdout]", metavar="FILE")] = None,
    top: Annotated[int | None, typer.Option(help="Only the best N rows.", metavar="N", min=1)] = None,
    baselines: options.BaselinesOption = True,
    storage_wait: options.StorageWaitOption = options.DEFAULT_STORAGE_WAIT_S,
) -> None:
    """Print the ranked table of a study, finished or not."""
    with user_errors():
        chosen = format or _by_ending(output)
        if chosen not in FORMATS:
            raise UsageError(f"--format {chosen}: choices are {', '.join(FORMATS)}")
        from search.reporting.render import render
        from search.study.lookup import open_studies

        database, names = open_studies(study, storage, storage_wait, baselines=baselines)
        with database.closing():
            text = render(database, names, chosen, top)
        if output is None:
            print(text)
        else:
            _write(output, text)


def _by_ending(output: Path | None) -> str:
    """The format that the name of the output file asks for."""
    ending = "" if output is None else output.suffix.lower()
    return next((name for name, its_ending in FORMATS.items() if its_ending == ending), "markdown")


def _write(output: Path, text: str) -> None:
    if output.parent.exists() and not output.parent.is_dir():
        raise UsageError(f"--output {output}: {output.parent} is not a folder; name a file that can be written")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--output {output}: {error.strerror}; name a file that can be written") from error


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
