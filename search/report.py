"""`python -m search.report`: the ranked table of a study, as markdown, CSV or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search import options
from search.errors import UsageError, user_errors

if TYPE_CHECKING:
    from search.ranking import Row
    from storage.database import Database

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
FORMATS = ("markdown", "csv", "json")


@app.command()
def report(
    study: options.StudyOption,
    storage: options.StorageOption = options.DEFAULT_STORAGE,
    format: Annotated[str, typer.Option(help=f"{', '.join(FORMATS)}.", metavar="FORMAT")] = "markdown",
    output: Annotated[Path | None, typer.Option(help="Write to this file.  [default: stdout]", metavar="FILE")] = None,
    top: Annotated[int | None, typer.Option(help="Only the best N rows.", metavar="N", min=1)] = None,
    baselines: options.BaselinesOption = True,
    storage_wait: options.StorageWaitOption = options.DEFAULT_STORAGE_WAIT_S,
) -> None:
    """Print the ranked table of a study, finished or not."""
    with user_errors():
        if format not in FORMATS:
            raise UsageError(f"--format {format}: choices are {', '.join(FORMATS)}")
        from search.opening import open_studies

        database, names = open_studies(study, storage, storage_wait, baselines=baselines)
        with database.closing():
            text = render(database, names, format, top)
        if output is None:
            print(text)
        else:
            _write(output, text)


def render(database: Database, names: Sequence[str], format: str, top: int | None = None) -> str:
    """The report of the studies `names`, the first of which gives the title."""
    from search.ranking import ranked_rows
    from search.tables import as_csv, as_json
    from storage.summaries import counts, study_attrs

    rows = ranked_rows(database, names)
    found = counts(database, names)
    attrs = study_attrs(database, names[0])
    assert attrs is not None, "open_studies looked"
    shown = rows[:top]
    if format == "csv":
        return as_csv(shown)
    if format == "json":
        return as_json(shown, {"study": names[0], "counts": found, "definition": attrs["definition"]})
    return _as_page(names[0], attrs, found, rows, shown)


def _as_page(
    name: str, attrs: Mapping[str, Any], found: Mapping[str, int], rows: Sequence[Row], shown: Sequence[Row]
) -> str:
    from search.tables import as_markdown
    from search.warmstart import comparison

    definition, pruner = attrs["definition"], attrs["settings"]["pruner"]
    axes = "; ".join(f"{axis}: {', '.join(map(str, values))}" for axis, values in definition["grid"].items())
    axes = "; ".join([axes, *(_range(axis, each) for axis, each in definition.get("axes", {}).items())])
    training = ", ".join(f"{key} {value}" for key, value in definition["training"].items())
    best = comparison(attrs, next((row for row in rows if row.state == "complete"), None))
    lines = [
        f"# {name}",
        "",
        *([attrs["description"], ""] if attrs["description"] else []),
        f"- trials: {', '.join(f'{count} {state}' for state, count in found.items() if count) or 'none'}",
        *([] if best is None else [best]),
        f"- grid: {axes}",
        f"- training: {training}",
        f"- corpus: {attrs['corpus']}, SHA-256 {definition['corpus_sha256']}",
        f"- pruner: {_pruner(pruner)}",
        "",
        "Losses are means over the trials of a cell, in nats per character; val_loss ranks."
        + (" A pruned cell's loss is that of the step at which it was pruned." if found["pruned"] else "")
        + (" Difference is val_loss minus the published loss." if any(row.published for row in rows) else ""),
        "",
        as_markdown(shown),
    ]
    if len(shown) < len(rows):
        lines += ["", f"{len(rows) - len(shown)} more cells."]
    return "\n".join(lines)


def _range(axis: str, ends: Mapping[str, Any]) -> str:
    return f"{axis}: {ends['low']} to {ends['high']}" + (", log" if ends["log"] else "")


def _pruner(settings: Mapping[str, Any]) -> str:
    if settings["name"] == "none":
        return "none"
    rest = ", ".join(f"{key} {value}" for key, value in settings.items() if key != "name")
    return f"{settings['name']} ({rest})"


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
