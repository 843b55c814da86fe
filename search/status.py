"""`python -m search.status`: counts, leases and stale workers of a study; puts failed trials back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search import options
from search.errors import user_errors

if TYPE_CHECKING:
    from storage.database import Database
    from storage.summaries import RunSummary

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
        from search.opening import open_studies
        from storage.queue import RunQueue

        database, names = open_studies(study, storage, storage_wait, baselines=baselines)
        with database.closing():
            retried = RunQueue(database).retry_failed(names) if retry_failed else None
            print(_as_json(database, names, retried) if as_json else _as_text(database, names, retried))


def _as_json(database: Database, names: Sequence[str], retried: int | None) -> str:
    from storage.summaries import counts, run_summaries

    runs = [_finite(asdict(run)) for run in run_summaries(database, names, ("running", "failed", "diverged"))]
    facts = {"studies": list(names), "counts": counts(database, names), "retried": retried, "trials": runs}
    return json.dumps(facts, indent=2)


def _finite(facts: Mapping[str, Any]) -> dict[str, Any]:
    # JSON has no NaN, which is what a diverged trial's loss is.
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in facts.items()}


def _as_text(database: Database, names: Sequence[str], retried: int | None) -> str:
    from storage.summaries import counts, run_summaries

    lines = [] if retried is None else [f"{retried} failed trials are back in the queue"]
    for name in names:
        found = counts(database, [name])
        total = sum(found.values())
        lines.append(f"{name}: {total} trials; " + ", ".join(f"{count} {state}" for state, count in found.items()))
    running = run_summaries(database, names, ("running",))
    again = [run for run in run_summaries(database, names, ("waiting",)) if run.attempts]
    wrong = run_summaries(database, names, ("failed", "diverged"))
    for title, runs, line in (
        ("running", running, _running),
        ("waiting for another attempt", again, _troubled),
        ("failed", wrong, _troubled),
    ):
        if runs:
            lines += ["", f"{title}:", *(f"  {line(run)}" for run in runs)]
    if wrong:
        lines.append("put them back with --retry-failed")
    return "\n".join(lines)


def _running(run: RunSummary) -> str:
    from search.reporting.tables import loss_text

    left = run.lease_left_s or 0.0
    lease = f"lease ends in {left:.0f} s" if left > 0 else f"lease expired {-left:.0f} s ago: the worker is gone"
    loss = math.nan if run.val_loss is None else run.val_loss  # SQLite keeps NaN as NULL
    at = "no step yet" if run.step is None else f"step {run.step}, val_loss {loss_text(loss, 4)}"
    return f"{_trial(run)}: {at}; {run.owner}; {lease}"


def _troubled(run: RunSummary) -> str:
    return f"{_trial(run)}: {run.reason or run.state}"


def _trial(run: RunSummary) -> str:
    from search.reporting.tables import describe_cell

    return f"{run.study} trial {run.number} ({describe_cell(run.cell)}), attempt {run.attempts}"


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
