"""Opens an existing study, for programs that only read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from search.errors import UsageError
from search.hints import command_of
from search.storage.connect import open_database
from search.storage.database import Database
from search.storage.errors import NoStudyYet
from search.storage.migrations.runner import Outdated
from search.storage.optuna_studies import optuna_study_names, planned_names
from search.storage.queries import study_attrs
from search.storage.schema import DEFINITION
from search.storage.url import display_url
from search.study.cells import BASELINES_SUFFIX, CONFIRMATION, CONFIRMATION_SUFFIX
from search.study.names import is_study_file
from search.study.optuna_study import copy_in_memory
from search.study.study_file import run_argument


class UnknownStudy(UsageError):
    """The database has no study of this name; other studies may exist, and this one may appear later."""


def open_studies(
    study: str,
    storage: str,
    wait_s: float,
    *,
    baselines: bool,
    confirmation: bool = False,
    outdated: Outdated = "read",
    of_optuna: bool = False,
) -> tuple[Database, list[str]]:
    """Open an existing study for reading.

    Args:
        study: Its name in the database, or the study file that names it.
        baselines, confirmation: Whether to name the sibling with the baselines, and that with the confirming trials.
        outdated: What to do with a database of an older version, as for `search.storage.connect.open_database`.
        of_optuna: Whether a study that Optuna alone made will do.

    Returns:
        The database, or a copy in memory of a study that Optuna alone made; and the names of the study and of its
        siblings that exist.

    Raises:
        UnknownStudy: There is no such study; the message lists the existing ones.
        NoStudyYet: The database or its tables do not exist; the message says how to plan the study.
        UsageError: Optuna alone made the study, and `of_optuna` is False.
        StorageError: The database cannot be opened.
    """
    name = stored_name(study)
    try:
        database = open_database(storage, create=False, outdated=outdated, wait_s=wait_s, optuna_alone="read")
    except NoStudyYet as error:
        raise NoStudyYet(f"{error} with: {_planning_command(study, storage)}") from error
    there = planned_names(database)
    if name not in there:
        with database.closing():
            others = optuna_study_names(database)
            if name in others and of_optuna:
                return copy_in_memory(database, name), [name]
        if name in others:
            raise UsageError(refusal_of_optunas(name, storage))
        step = f"start one with: {_planning_command(study, storage)}"
        raise UnknownStudy(f"{no_study(name, storage, [*there, *others])}; {step}")
    siblings = [name + BASELINES_SUFFIX] if baselines and name + BASELINES_SUFFIX in there else []
    if confirmation and (confirming := confirmation_of(database, name)) is not None:
        siblings.append(confirming)
    return database, [name, *siblings]


def confirmation_of(database: Database, study: str) -> str | None:
    """The name of the study that confirms another one; None if there is none yet."""
    name = study + CONFIRMATION_SUFFIX
    definition = (study_attrs(database, name) or {}).get(DEFINITION) or {}
    # Names of earlier versions may end so.
    return name if definition.get(CONFIRMATION) is not None else None


def with_siblings(database: Database, study: str) -> list[str]:
    """The names of a planned study and of its siblings, whether a program includes them or not."""
    confirming = confirmation_of(database, study)
    return [study, study + BASELINES_SUFFIX, *([] if confirming is None else [confirming])]


def study_and_storage(study: str, storage: str) -> tuple[str, str]:
    """A study and its database, from NAME, or from NAME@URL for one of another database.

    Args:
        storage: The URL of the database of a name alone.
    """
    found = re.fullmatch(r"(.+?)@([A-Za-z][\w+]*:/.*|server:.+)", study, re.DOTALL)
    return (study, storage) if found is None else (found[1], found[2])


def _planning_command(study: str, storage: str) -> str:
    named = shlex.quote(run_argument(study))
    return f"{command_of('run')} --study {named} --storage {shlex.quote(display_url(storage))}"


def refusal_of_optunas(name: str, storage: str) -> str:
    """What can be done with a study that Optuna alone made, besides training it."""
    shown = display_url(storage)
    return (
        f"the study {name!r} in {shown} is Optuna's own: lm-search did not plan it and cannot train its trials; show "
        f"it with: {command_of('report')} --study {shlex.quote(name)} --storage {shlex.quote(shown)}; for a study of "
        "lm-search give another --name"
    )


def no_study(name: str, storage: str, there: Sequence[str]) -> str:
    """The message that a database has no study of this name, with the names of those that it has."""
    return f"no study {name!r} in {display_url(storage)}; existing studies: {', '.join(there) or 'none'}"


def stored_name(study: str) -> str:
    """The name in the database of a study, which is given as that name or as the study file."""
    if not is_study_file(study):
        return study
    from search.study.definition import load_definition  # slow to import, and a plain name does not need it

    return load_definition(study).name
