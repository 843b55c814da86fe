"""Opens an existing study, for programs that only read."""

from __future__ import annotations

import shlex

from search.errors import UsageError
from search.hints import command_of
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.errors import NoStudyYet
from search.storage.migrations.runner import Outdated
from search.storage.queries import study_names
from search.storage.url import display_url
from search.study.cells import BASELINES_SUFFIX


class UnknownStudy(UsageError):
    """The database has no study of this name; other studies may exist, and this one may appear later."""


def open_studies(
    study: str, storage: str, wait_s: float, *, baselines: bool, outdated: Outdated = "read"
) -> tuple[Database, list[str]]:
    """Open an existing study for reading.

    Args:
        study: Its name in the database, or the study file that names it.
        outdated: What to do with a database of an older version, as for `search.storage.connect.open_database`.

    Returns:
        The database, and the names of the study and, if it exists, of its sibling with the baselines.

    Raises:
        UnknownStudy: There is no such study; the message lists the existing ones.
        NoStudyYet: The database or its tables do not exist; the message says how to plan the study.
        StorageError: The database cannot be opened.
    """
    name = _name_in_file(study) if study.endswith(".toml") else study
    try:
        database = open_database(storage, create=False, outdated=outdated, wait_s=wait_s)
    except NoStudyYet as error:
        raise NoStudyYet(f"{error} with: {_planning_command(study, storage)}") from error
    there = study_names(database)
    if name not in there:
        database.engine.dispose()
        raise UnknownStudy(
            f"no study {name!r} in {display_url(storage)}; existing studies: {', '.join(there) or 'none'}; "
            f"start one with: {_planning_command(study, storage)}"
        )
    siblings = [name + BASELINES_SUFFIX] if baselines and name + BASELINES_SUFFIX in there else []
    return database, [name, *siblings]


def _planning_command(study: str, storage: str) -> str:
    return f"{command_of('run')} --study {shlex.quote(study)} --storage {shlex.quote(display_url(storage))}"


def _name_in_file(study: str) -> str:
    from search.study.definition import load_definition  # slow to import, and a plain name does not need it

    return load_definition(study).name
