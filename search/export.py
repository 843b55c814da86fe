"""`python -m search.export`: writes a study with its artifacts and checkpoints to one file."""

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
    """Write a study to one file, for import elsewhere.

    Workers may go on: the file has the study as it is at one moment.
    """
    with user_errors():
        from search.study.formatting import count_text, size_text
        from search.study.lookup import open_studies

        if options.to.suffix != ".zip":
            raise UsageError(f"--to {options.to}: give a file whose name ends in .zip")
        if options.to.exists():
            raise UsageError(f"--to {options.to} exists; choose another file")
        database, names = open_studies(
            options.name or options.study,
            options.storage,
            options.storage_wait_s,
            baselines=True,
            confirmation=True,
            outdated="refuse",
        )
        with database.closing():
            exported = _export(database, names, options)
        if exported.missing:
            write_line(f"warning: {exported.missing} artifacts are not in the store and were left out", sys.stderr)
        write_line(
            f"exported {' and '.join(names)} to {options.to} ({size_text(options.to.stat().st_size)}): "
            f"{count_text(exported.trials, 'trial')}, {count_text(exported.artifacts, 'artifact')}, "
            f"{count_text(exported.checkpoints, 'checkpoint')}"
        )


def _export(database: Database, names: list[str], options: ExportOptions) -> Exported:
    from search.storage.artifact_store import artifact_store
    from search.storage.checkpoint_store import CheckpointStore
    from search.storage.exporting import export_studies

    store = artifact_store(options.artifacts, options.out)
    checkpoints = CheckpointStore(options.out) if options.checkpoints else None
    part = Path(f"{options.to}.part")  # a repeated command replaces what a killed one has left
    try:
        exported = export_studies(database, names, part, store, checkpoints)
        part.rename(options.to)
        return exported
    except OSError as error:
        raise UsageError(f"--to {options.to}: {error.strerror or error}; choose another file") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


EXAMPLES = (
    ("the built-in study with its artifacts", "--study bigram --to bigram.zip"),
    (
        "losses only, from a server",
        "--study bigram --storage postgresql://me@host/search --artifacts none --to small.zip",
    ),
)
app = new_program(export, ExportOptions, EXAMPLES, short=True)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
