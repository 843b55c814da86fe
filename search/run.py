"""`python -m search.run`: plan a study, train it in parallel workers, print the ranked table."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from search import options
from search.errors import EXIT_FAILED_TRIALS, EXIT_INTERRUPTED, user_errors

if TYPE_CHECKING:
    from search.service import StudyResult

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def run(
    study: options.StudyOption,
    storage: options.StorageOption = options.DEFAULT_STORAGE,
    name: options.NameOption = None,
    workers: options.WorkersOption = "auto",
    devices: options.DevicesOption = "auto",
    seeds: options.SeedsOption = None,
    pruner: options.PrunerOption = None,
    settings: options.SetOption = None,
    baselines: options.BaselinesOption = True,
    corpus: options.CorpusOption = None,
    out: options.OutOption = options.DEFAULT_OUT,
    artifacts: options.ArtifactsOption = None,
    storage_wait: options.StorageWaitOption = options.DEFAULT_STORAGE_WAIT_S,
    timeout: Annotated[float | None, typer.Option(help="Stop after so long.", metavar="SECONDS", min=0)] = None,
    target: Annotated[float | None, typer.Option(help="Stop at this validation loss.", metavar="LOSS")] = None,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="Serve the dashboard beside the run.")] = False,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Plan the study and train nothing.")] = False,
    fuse: options.FuseOption = options.DEFAULT_FUSE,
    profile: options.ProfileOption = False,
    warm_start: options.FromOption = None,
    quiet: options.QuietOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Train every cell of a study in parallel workers; started again, it goes on where it stopped."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    with user_errors():
        from search.service import run_study

        result = run_study(
            study,
            storage=storage,
            name=name,
            workers=workers,
            devices=devices,
            seeds=seeds,
            pruner=pruner,
            settings=settings or (),
            baselines=baselines,
            corpus=corpus,
            out=out,
            artifacts=artifacts,
            storage_wait_s=storage_wait,
            timeout_s=timeout,
            target=target,
            dashboard=dashboard,
            plan_only=plan_only,
            fuse=fuse,
            profile=profile,
            warm_start=warm_start,
            quiet=quiet,
        )
    _print(result, as_json)
    if profile:
        from search.workers.profile import as_text

        print(f"where the workers' time went:\n{as_text(result.profile)}", file=sys.stderr)
    raise SystemExit(result.exit_code)


def _print(result: StudyResult, as_json: bool) -> None:
    from search.reporting.tables import as_json as to_json
    from search.reporting.tables import as_markdown
    from search.storage.url import display_url

    shown = display_url(result.storage)
    if as_json:
        facts = {"study": result.study, "storage": shown, "counts": result.counts, "seconds": result.seconds}
        print(to_json(result.rows, facts))
        return
    if any(row.val_loss is not None for row in result.rows):
        print(as_markdown(result.rows))
    ended = ", ".join(f"{count} {state}" for state, count in result.counts.items() if count)
    print(f"\n{result.study}: {ended}; {result.seconds:.1f} s", file=sys.stderr)
    if result.exit_code == EXIT_FAILED_TRIALS:
        print(f"why:    python -m search.status --study {result.study} --storage {shown}", file=sys.stderr)
    if result.exit_code == EXIT_INTERRUPTED:
        print("stopped before the end; the same command goes on from here", file=sys.stderr)
    print(f"report: python -m search.report --study {result.study} --storage {shown}", file=sys.stderr)
    print(f"browse: python -m search.dashboard --storage {shown}", file=sys.stderr)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
