"""The options of delete, export, import and database; declared as those in `search.options`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from search.option_fields import Option, Options
from search.shared_options import FolderOptions, NameOptions, StorageWaitOptions, StudyOptions


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DeleteOptions(FolderOptions, NameOptions, StudyOptions):
    """The options of `search.delete`."""

    yes: Annotated[bool, Option("Delete without asking.")] = False


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ExportOptions(FolderOptions, NameOptions, StudyOptions):
    """The options of `search.export`."""

    to: Annotated[str, Option("File to write, or a tracker, as for --track of run.", "FILE.zip|NAME:TARGET")]
    checkpoints: Annotated[bool, Option("Include checkpoints of unfinished trials.")] = True


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ImportOptions(FolderOptions, NameOptions, StorageWaitOptions):
    """The options of `search.import`."""

    file: Annotated[Path, Option("File of an exported study.", "FILE.zip", convert=Path, is_argument=True)]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DatabaseOptions(Options):
    """The options of `search.database`."""

    folder: Annotated[Path, Option("Folder of the database.", "DIR", convert=Path)]
    stop: Annotated[bool, Option("Stop the server, on whatever host it runs.")] = False
    backup: Annotated[Path | None, Option("Write a copy of the database to this file.", "FILE", convert=Path)] = None
    restore: Annotated[Path | None, Option("Make the database from such a file.", "FILE", convert=Path)] = None
