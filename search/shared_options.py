"""The options that several programs have; declared as those in `search.options`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from search.option_fields import Option, Options

DEFAULT_STORAGE = "sqlite:///search.db"
DEFAULT_STORAGE_WAIT_S = 60.0


def as_texts(texts: Sequence[str] | str) -> tuple[str, ...]:
    """One text, or several."""
    return (texts,) if isinstance(texts, str) else tuple(texts)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StorageOptions(Options):
    """Which database."""

    storage: Annotated[str, Option("Database that the workers share.", "URL", env="SEARCH_STORAGE", secret=True)] = (
        DEFAULT_STORAGE
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StudyNameOptions(Options):
    """Which study."""

    study: Annotated[str, Option("A built-in study, such as bigram, or the path of a study file.", "NAME|FILE.toml")]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StorageWaitOptions(StorageOptions):
    """Which database, and how long to wait for it."""

    storage_wait_s: Annotated[
        float,
        Option("Seconds to wait for a database that is starting.", "SECONDS", flag="--storage-wait", minimum=0),
    ] = DEFAULT_STORAGE_WAIT_S


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StudyOptions(StorageWaitOptions, StudyNameOptions):
    """Which study in which database; options of every program that works on one study."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class BaselinesOptions(Options):
    """Whether to include the sibling study with the baselines."""

    baselines: Annotated[bool, Option("Include the study's baselines.")] = True


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CorpusOptions(Options):
    """The text to train on."""

    corpus: Annotated[
        Path | None,
        Option(
            "Text to train on: a UTF-8 file, a folder with train and val, bytes:FILE, or builtin:shakespeare.",
            "FILE|FOLDER",
            env="SEARCH_CORPUS",
            unset="that of the study file, else tiny shakespeare",
            convert=Path,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FolderOptions(Options):
    """Where files are stored."""

    out: Annotated[Path, Option("Folder for checkpoints and logs.", "DIR", env="SEARCH_OUT", convert=Path)] = Path(
        "search-out"
    )
    artifacts: Annotated[
        str | None,
        Option(
            "Where the files of finished trials are stored: a folder, s3://bucket/prefix, or none.",
            "DIR|URL",
            env="SEARCH_ARTIFACTS",
            unset="artifacts, in the folder --out",
            convert=str,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class NameOptions(Options):
    """The name of a study, if it differs from that of its definition."""

    name: Annotated[str | None, Option("Name of the study in the database.", unset="that of the definition")] = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class QuietOptions(Options):
    """Whether to show progress."""

    quiet: Annotated[bool, Option("Show no progress.")] = False


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class JsonOptions(Options):
    """Whether to print JSON."""

    json: Annotated[bool, Option("Print the result as one JSON object.")] = False
