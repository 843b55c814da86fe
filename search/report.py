"""`python -m search.report`: the ranked table of a study, as markdown, CSV, JSON, LaTeX or one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search import options
from search.errors import UsageError, user_errors

if TYPE_CHECKING:
    from search.reporting.findings import Findings
    from search.reporting.ranking import Row
    from storage.database import Database

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
        from search.opening import open_studies

        database, names = open_studies(study, storage, storage_wait, baselines=baselines)
        with database.closing():
            text = render(database, names, chosen, top)
        if output is None:
            print(text)
        else:
            _write(output, text)


def render(database: Database, names: Sequence[str], format: str, top: int | None = None) -> str:
    """The report of the studies `names`, the first of which gives the title."""
    from search.reporting.findings import gather
    from search.reporting.latex import as_latex
    from search.reporting.tables import as_csv, as_json
    from search.reporting.verdict_text import verdicts_as_markdown
    from search.reporting.verdicts import judge

    findings = gather(database, names, whole=format == "html")
    if format == "html":
        from search.reporting.page import as_html

        return as_html(findings, top)
    shown = findings.rows[:top]
    if format == "csv":
        return as_csv(shown)
    if format == "latex":
        return as_latex(names[0], findings.unit, shown, [*findings.missing, *_left_out(findings.rows, shown)])
    verdicts = judge(database, names)
    if format == "json":
        facts = {"study": names[0], "counts": findings.counts, "definition": findings.attrs["definition"]}
        said = {"floor": findings.floor, "missing": findings.missing, "verdicts": asdict(verdicts)}
        return as_json(shown, {**facts, **said})
    return f"{_as_page(findings, shown)}\n\n{verdicts_as_markdown(verdicts).rstrip()}"


def _by_ending(output: Path | None) -> str:
    """The format that the name of the output file asks for."""
    ending = "" if output is None else output.suffix.lower()
    return next((name for name, its_ending in FORMATS.items() if its_ending == ending), "markdown")


def _as_page(findings: Findings, shown: Sequence[Row]) -> str:
    from search.own_code import OURS
    from search.reporting.tables import as_markdown, describe_cell
    from search.strategies.warmstart import beside

    attrs, found, rows = findings.attrs, findings.counts, findings.rows
    definition, pruner = attrs["definition"], attrs["settings"]["pruner"]
    axes = "; ".join(f"{axis}: {', '.join(map(str, values))}" for axis, values in definition["grid"].items())
    axes = "; ".join([axes, *(_range(axis, each) for axis, each in definition.get("axes", {}).items())])
    training = ", ".join(f"{key} {value}" for key, value in definition["training"].items())
    best = next((row for row in rows if row.state == "complete"), None)
    others = "" if best is None else beside(attrs, best)
    lines = [
        f"# {findings.name}",
        "",
        *([attrs["description"], ""] if attrs["description"] else []),
        f"- trials: {', '.join(f'{count} {state}' for state, count in found.items() if count) or 'none'}",
        *([f"- sampler: {_sampler(attrs)}"] if "sampler" in definition else []),
        *(
            [f"- best: {best.val_loss:.5f}, {describe_cell(best.cell)}; {others}"]
            if best is not None and others
            else []
        ),
        f"- grid: {axes}",
        f"- training: {training}",
        *([] if definition["objective"].startswith(OURS) else [f"- objective: {definition['objective']}"]),
        *([f"- corpus: {attrs['corpus']}, SHA-256 {definition['corpus_sha256']}"] if attrs["corpus"] else []),
        f"- pruner: {_pruner(pruner)}",
        *([f"- floor: {findings.floor:.5f}, the loss of a counted bigram"] if findings.floor is not None else []),
        *(f"- note: {sentence}" for sentence in findings.missing),
        "",
        f"Losses are means over the trials of a cell, in {findings.unit}; val_loss ranks."
        + (" A pruned cell's loss is that of the step at which it was pruned." if found["pruned"] else "")
        + (" Difference is val_loss minus the published loss." if any(row.published for row in rows) else ""),
        "",
        as_markdown(shown),
    ]
    for remark in _left_out(rows, shown):
        lines += ["", remark]
    return "\n".join(lines)


def _left_out(rows: Sequence[Row], shown: Sequence[Row]) -> list[str]:
    return [f"{len(rows) - len(shown)} more cells."] if len(shown) < len(rows) else []


def _sampler(attrs: Mapping[str, Any]) -> str:
    sampler = dict(attrs["definition"]["sampler"])
    arguments = ", ".join(f"{key} {value}" for key, value in sampler.items() if key != "name")
    started = f"; shown the cells of {attrs['from']['study']}" if "from" in attrs else ""
    return str(sampler["name"]) + (f" ({arguments})" if arguments else "") + started


def _range(axis: str, ends: Mapping[str, Any]) -> str:
    return f"{axis}: {ends['low']} to {ends['high']}" + (", log" if ends["log"] else "")


def _pruner(settings: Mapping[str, Any]) -> str:
    from search.strategies.pruner_settings import USED_BY

    rest = ", ".join(f"{key} {settings[key]}" for key in USED_BY[settings["name"]] if key in settings)
    return f"{settings['name']} ({rest})" if rest else str(settings["name"])


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
