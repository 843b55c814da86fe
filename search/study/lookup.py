"""Opens a study that exists, for programs that read."""

from __future__ import annotations

from search.errors import UsageError
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.migrations.runner import Outdated
from search.storage.queries import study_names
from search.storage.url import display_url
from search.study.cells import BASELINES_SUFFIX


class UnknownStudy(UsageError):
    """The database has studies, or could have, but none of this name."""


def open_studies(
    study: str, storage: str, wait_s: float, *, baselines: bool, outdated: Outdated = "read"
) -> tuple[Database, list[str]]:
    """Open a study that exists, for reading.

    Args:
        study: Its name in the database, or the study file that names it.
        outdated: What to do with a database of an older version, as for `search.storage.connect.open_database`.

    Returns:
        The database, and the names of the study and of its sibling with the baselines if that exists too.

    Raises:
        UnknownStudy: There is no such study; the message lists those that there are.
        StorageError: The database cannot be opened.
    """
    name = _name_in_file(study) if study.endswith(".toml") else study
    database = open_database(storage, create=False, outdated=outdated, wait_s=wait_s)
    there = study_names(database)
    if name not in there:
        database.engine.dispose()
        raise UnknownStudy(
            f"no study {name!r} in {display_url(storage)}; studies there: {', '.join(there) or 'none'}; "
            f"start one with: python -m search.run --study {study}"
        )
    siblings = [name + BASELINES_SUFFIX] if baselines and name + BASELINES_SUFFIX in there else []
    return database, [name, *siblings]


def _name_in_file(study: str) -> str:
    from search.study.definition import load_definition  # its models take a while, and a name needs none

    return load_definition(study).name
