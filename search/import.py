"""`python -m search.import`: reads an exported study into a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.command_line import new_program
from search.errors import UsageError, user_errors
from search.housekeeping_options import ImportOptions
from search.streams import write_line

if TYPE_CHECKING:
    from search.storage.study_archive import ArchiveReader


def import_(options: ImportOptions) -> None:
    """Read a study from an exported file.

    All of it is imported or nothing. A study that is not finished can go on here; trials that were running wait.
    """
    with user_errors():
        from search.storage.artifact_store import artifact_store
        from search.storage.checkpoint_store import CheckpointStore
        from search.storage.connect import open_database
        from search.storage.importing import ImportedFiles, import_studies
        from search.storage.queries import counts
        from search.storage.study_archive import open_archive

        store = artifact_store(options.artifacts, options.out)
        with open_archive(options.file) as archive:
            names = _names(archive, options)
            database = open_database(options.storage, create=True, wait_s=options.storage_wait_s)
            with database.closing():
                try:
                    import_studies(database, archive, names, ImportedFiles(store, CheckpointStore(options.out)))
                except OSError as error:
                    raise UsageError(f"nothing was imported: {error.strerror or error}: {error.filename}") from error
                found = {state: count for state, count in counts(database, names).items() if count}
        ended = ", ".join(f"{count} {state}" for state, count in found.items())
        write_line(f"imported {' and '.join(names)}: {sum(found.values())} trials ({ended})")


def _names(archive: ArchiveReader, options: ImportOptions) -> list[str]:
    """The names that the studies get: a study and its siblings keep belonging together.

    Raises:
        UsageError: A name is not valid, or a study has settings that this version does not support.
    """
    from search.study.cells import BASELINES_SUFFIX, CONFIRMATION_SUFFIX
    from search.study.names import name_fault
    from search.study.stored import parse_study

    first, *siblings = archive.head["studies"]
    name = options.name or first["name"]
    # The baselines alone, or the confirmation, can have been exported.
    if fault := name_fault(name.removesuffix(BASELINES_SUFFIX).removesuffix(CONFIRMATION_SUFFIX)):
        raise UsageError(f"--name {name!r}: {fault}")
    names = [name, *(name + each["name"].removeprefix(first["name"]) for each in siblings)]
    for each, head in zip(names, archive.head["studies"], strict=True):
        parse_study(each, head["user_attrs"])
    return names


EXAMPLES = (
    ("into the default database", "bigram.zip"),
    ("into a server, under another name", "bigram.zip --storage postgresql://me@host/search --name bigram-old"),
)
app = new_program(import_, ImportOptions, EXAMPLES, short=True)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
