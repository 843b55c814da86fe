"""`python -m search.export`: writes a study with its files to one file, or sends its results to a tracker."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from search.command_line import new_program
from search.errors import UsageError, user_errors
from search.housekeeping_options import ExportOptions
from search.streams import write_line

if TYPE_CHECKING:
    from search.storage.database import Database
    from search.storage.exporting import Exported


def export(options: ExportOptions) -> None:
    """Write a study to a file, or send its results to a tracker.

    Workers may go on: the file has the study as it is at one moment.
    """
    with user_errors():
        from search.trackers.registry import TRACKERS

        if options.to.endswith(".zip") and options.to.partition(":")[0] not in TRACKERS:
            _to_file(options, Path(options.to))
        elif options.to.startswith("webhook:"):
            raise UsageError("--to webhook: a webhook tells what happens while a study runs; choose another tracker")
        elif ":" in options.to:
            _to_tracker(options)
        else:
            raise UsageError(f"--to {options.to}: give a file whose name ends in .zip, or a tracker such as jsonl:FILE")


def _to_tracker(options: ExportOptions) -> None:
    from search.study.formatting import count_text
    from search.trackers.backfill import backfill
    from search.trackers.registry import make_tracker, shown

    tracker = make_tracker("--to", options.to, options.study, options.storage)
    database, names = _opened(options)
    with database.closing():
        events = backfill(database, names, f"--to {shown(options.to)}", tracker)
    write_line(f"sent {count_text(events, 'event')} of {' and '.join(names)} to {shown(options.to)}")


def _opened(options: ExportOptions) -> tuple[Database, list[str]]:
    from search.study.lookup import open_studies

    study, wait_s = options.name or options.study, options.storage_wait_s
    return open_studies(study, options.storage, wait_s, baselines=True, confirmation=True, outdated="refuse")


def _to_file(options: ExportOptions, to: Path) -> None:
    from search.study.formatting import count_text, size_text

    if to.exists():
        raise UsageError(f"--to {to} exists; choose another file")
    database, names = _opened(options)
    with database.closing():
        exported = _export(database, names, options, to)
    if exported.missing:
        write_line(f"warning: {exported.missing} artifacts are not in the store and were left out", sys.stderr)
    write_line(
        f"exported {' and '.join(names)} to {to} ({size_text(to.stat().st_size)}): "
        f"{count_text(exported.trials, 'trial')}, {count_text(exported.artifacts, 'artifact')}, "
        f"{count_text(exported.checkpoints, 'checkpoint')}"
    )


def _export(database: Database, names: list[str], options: ExportOptions, to: Path) -> Exported:
    from search.storage.artifact_store import artifact_store
    from search.storage.checkpoint_store import CheckpointStore
    from search.storage.exporting import export_studies

    store = artifact_store(options.artifacts, options.out)
    checkpoints = CheckpointStore(options.out) if options.checkpoints else None
    part = Path(f"{to}.part")  # a repeated command replaces what a killed one has left
    try:
        exported = export_studies(database, names, part, store, checkpoints)
        part.rename(to)
        return exported
    except OSError as error:
        raise UsageError(f"--to {to}: {error.strerror or error}; choose another file") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


EXAMPLES = (
    ("the built-in study with its artifacts", "--study bigram --to bigram.zip"),
    ("its curves, to TensorBoard", "--study bigram --to tensorboard:runs"),
)
app = new_program(export, ExportOptions, EXAMPLES, short=True)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
