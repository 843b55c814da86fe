"""`python -m search.delete`: deletes a study with its trials, artifacts, checkpoints and logs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from search.command_line import new_program
from search.errors import UsageError, user_errors
from search.housekeeping_options import DeleteOptions
from search.streams import write_line

if TYPE_CHECKING:
    from search.storage.artifact_store import ArtifactStore
    from search.storage.checkpoint_store import CheckpointStore
    from search.storage.database import Database

EXIT_NOT_DELETED = 1


def delete(options: DeleteOptions) -> None:
    """Delete a study and everything that belongs to it.

    Its baselines, confirmation, trials, artifacts, checkpoints and logs are deleted, after a question. While workers
    train it is refused. Run the same command again if it was interrupted.
    """
    with user_errors():
        from search.storage.artifact_store import artifact_store
        from search.storage.checkpoint_store import checkpoint_store
        from search.storage.connect import open_database
        from search.storage.deletion import delete_studies
        from search.storage.optuna_studies import optuna_study_names
        from search.study.lookup import stored_name

        store = artifact_store(options.artifacts, options.out)
        checkpoints = checkpoint_store(options.out, options.artifacts, store)
        wait_s, name = options.storage_wait_s, options.name or stored_name(options.study)
        database = open_database(options.storage, create=False, outdated="refuse", wait_s=wait_s, optuna_alone="write")
        with database.closing():
            if name in optuna_study_names(database):
                _delete_optunas(database, name, options)
                return
            names, there = _find(database, name, options.storage)
            found = _summary(database, there, store, checkpoints, options) if there else f"files of {names[0]}"
            _confirm(found, options)
            delete_studies(database, there, checkpoints, with_artifacts=store is not None)
            _remove_files(database, names, store, checkpoints)
        write_line(f"deleted {found}")


def _delete_optunas(database: Database, name: str, options: DeleteOptions) -> None:
    """Delete a study that Optuna alone made; it has no files that lm-search knows."""
    from search.storage.optuna_studies import delete_optuna_study
    from search.storage.url import display_url
    from search.study.optuna_study import copy_in_memory

    with copy_in_memory(database, name).closing() as copy:
        trials = _trials(copy, [name])
    found = f"{name} in {display_url(options.storage)}, a study of Optuna's own: {trials}"
    _confirm(found, options)
    delete_optuna_study(database, name)
    write_line(f"deleted {found}")


def _find(database: Database, name: str, storage: str) -> tuple[list[str], list[str]]:
    """The names of the study and its siblings, and those of them that the database has.

    Raises:
        UnknownStudy: It has neither of them, nor files of them that a killed command left.
    """
    from search.storage.migrations.runner import has_our_tables
    from search.storage.optuna_studies import optuna_study_names, planned_names
    from search.storage.removals import of_studies, recorded
    from search.study.cells import BASELINES_SUFFIX, CONFIRMATION_SUFFIX
    from search.study.lookup import UnknownStudy, confirmation_of, no_study

    names, existing = [name, name + BASELINES_SUFFIX], planned_names(database)
    if (confirming := name + CONFIRMATION_SUFFIX) not in existing or confirmation_of(database, name) is not None:
        names.append(confirming)
    there = [each for each in names if each in existing]
    if not there and not (database.read(has_our_tables) and recorded(database, of_studies(names))):
        others = [*existing, *optuna_study_names(database)]
        raise UnknownStudy(f"{no_study(name, storage, others)}; nothing was deleted")
    return names, there


def _summary(
    database: Database,
    names: list[str],
    store: ArtifactStore | None,
    checkpoints: CheckpointStore,
    options: DeleteOptions,
) -> str:
    """What will be deleted, in words.

    Raises:
        UsageError: The studies have artifacts, and none of them is in the store.
    """
    from search.storage.artifact_store import ARTIFACTS_FOLDER, bucket_errors
    from search.storage.deletion import artifacts_of
    from search.storage.url import display_url
    from search.study.formatting import count_text, size_text

    artifacts = artifacts_of(database, names)
    with bucket_errors():
        sizes = {} if store is None else store.sizes(artifacts)
    where = options.artifacts or str(options.out / ARTIFACTS_FOLDER)
    if artifacts and store is not None and not sizes:
        raise UsageError(
            f"none of the {len(artifacts)} artifacts of {names[0]} is in {where}; nothing was deleted: give the --out "
            "and --artifacts that the study was trained with, or --artifacts none to leave artifacts where they are"
        )
    files = sum(checkpoints.folder_size(name) for name in names)
    kept = (
        f"artifacts are left ({len(artifacts)})"
        if store is None
        else (f"{count_text(len(sizes), 'artifact')} ({size_text(sum(sizes.values()))}) in {where}")
    )
    folders = f"checkpoints and logs ({size_text(files)}) in {options.out}"
    named = f"{' and '.join(names)} in {display_url(options.storage)}"
    return f"{named}: {_trials(database, names)}, {kept}, {folders}"


def _trials(database: Database, names: list[str]) -> str:
    from search.storage.queries import counts
    from search.study.formatting import count_text

    states = {state: count for state, count in counts(database, names).items() if count}
    ended = ", ".join(f"{count} {state}" for state, count in states.items())
    return f"{count_text(sum(states.values()), 'trial')}{f' ({ended})' if ended else ''}"


def _confirm(found: str, options: DeleteOptions) -> None:
    """Ask, unless it was said that this is not needed; end the program if the answer is no."""
    if not options.yes and not _is_confirmed(f"Delete {found}?"):
        write_line("nothing was deleted", sys.stderr)
        raise SystemExit(EXIT_NOT_DELETED)


def _is_confirmed(question: str) -> bool:
    """Ask on the terminal; no by default.

    Raises:
        UsageError: There is no terminal.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("nothing was deleted: there is no terminal to ask on; to delete without a question, add --yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _remove_files(
    database: Database, names: list[str], store: ArtifactStore | None, checkpoints: CheckpointStore
) -> None:
    from search.storage.removals import of_studies, remove_recorded

    left = remove_recorded(database, of_studies(names), store, checkpoints)
    if left.files:
        raise UsageError(
            f"the study is deleted, but {left.files} of its files could not be removed ({left.why}); run the same "
            "command again to remove them"
        )


EXAMPLES = (
    ("ask, then delete the study", "--study bigram"),
    ("delete without asking, for example in a script", "--study old --storage postgresql://me@host/search --yes"),
)
app = new_program(delete, DeleteOptions, EXAMPLES, short=True)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
