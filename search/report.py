"""`python -m search.report`: the ranked table of a study, as markdown, CSV, JSON, LaTeX or one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from search.command_line import new_program
from search.errors import UsageError, user_errors
from search.reading_options import ReportOptions
from search.streams import terminal_width, write_line


def report(options: ReportOptions) -> None:
    """Print the ranked table of a study, or compare two."""
    with user_errors():
        from search.reporting.render import FORMATS, format_of

        chosen = options.format or format_of(options.output)
        if chosen not in FORMATS:
            raise UsageError(f"--format {chosen}: choices are {', '.join(FORMATS)}")
        columns = None if options.columns is None else [name.strip() for name in options.columns.split(",")]
        if columns is not None and not all(columns):
            raise UsageError(f"--columns {options.columns!r}: write NAME,NAME, such as --columns rank,val_loss,state")
        text = _compared(options, chosen) if len(options.study) > 1 else _of_one_study(options, chosen, columns)
        if options.output is None:
            if not write_line(text):
                raise UsageError("cannot write the report to stdout; is the disk full? choose a file with --output")
        else:
            _write(options.output, text)


def _of_one_study(options: ReportOptions, format: str, columns: Sequence[str] | None) -> str:
    from search.reporting.render import render
    from search.study.lookup import open_studies, study_and_storage

    [given] = options.study
    study, storage = study_and_storage(given, options.storage)
    database, names = open_studies(study, storage, options.storage_wait_s, baselines=options.baselines, of_optuna=True)
    with database.closing():
        # On a terminal the table is as wide as that; a pipe and a file get markdown.
        width = terminal_width() if options.output is None and options.format is None else None
        return render(database, names, format, options.top, width, columns)


def _compared(options: ReportOptions, format: str) -> str:
    from search.reporting.comparison_report import read_comparison
    from search.study.lookup import study_and_storage

    if len(options.study) > 2:
        raise UsageError(f"--study is given {len(options.study)} times; give one study, or two to compare them")
    if options.columns is not None:
        raise UsageError("--columns is for the table of one study; leave it out to compare two")
    first, second = (study_and_storage(each, options.storage) for each in options.study)
    found = read_comparison(first, second, options.storage_wait_s, baselines=options.baselines)
    return found.report(format, options.top)


def _write(output: Path, text: str) -> None:
    try:
        if output.parent.exists() and not output.parent.is_dir():
            raise UsageError(f"--output {output}: {output.parent} is not a folder; choose a writable file")
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text + "\n", encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"--output {output}: {error.strerror}; choose a writable file") from error


EXAMPLES = (
    ("the ten best cells", "--study bigram --top 10"),
    ("one page with plots, to open in a browser", "--study bigram --output bigram.html"),
)
app = new_program(report, ReportOptions, EXAMPLES, short=True)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
