"""The options of the programs that show studies or check a trial; declared as those in `search.options`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from search.option_fields import Option
from search.shared_options import (
    BaselinesOptions,
    CorpusOptions,
    JsonOptions,
    QuietOptions,
    StorageWaitOptions,
    StudyOptions,
    as_texts,
)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ReportOptions(BaselinesOptions, StorageWaitOptions):
    """The options of `search.report`."""

    study: Annotated[
        tuple[str, ...],
        Option("A study, or two to compare; NAME@URL is one of another database.", "NAME|FILE.toml", convert=as_texts),
    ] = field(
        repr=False  # a URL may contain a password
    )
    format: Annotated[
        str | None,
        Option("markdown, csv, json, latex or html.", "FORMAT", unset="by the suffix of --output, else markdown"),
    ] = None
    output: Annotated[Path | None, Option("Write to this file.", "FILE", unset="stdout", convert=Path)] = None
    top: Annotated[int | None, Option("Only the best N rows.", "N", minimum=1)] = None
    columns: Annotated[
        str | None, Option("Columns of the table, metrics included.", "NAME,…", unset="those with something to say")
    ] = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StatusOptions(JsonOptions, BaselinesOptions, StudyOptions):
    """The options of `search.status`."""

    retry_failed: Annotated[bool, Option("First put failed trials back into the queue.")] = False
    follow: Annotated[bool, Option("Show it again whenever it changes, until no trial is left.")] = False
    diff: Annotated[
        tuple[str, str] | None,
        Option("What differs between two trials: numbers, or STUDY:NUMBER of another study.", "TRIAL TRIAL"),
    ] = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ReplayOptions(JsonOptions, QuietOptions, CorpusOptions, StudyOptions):
    """The options of `search.replay`."""

    trial: Annotated[int, Option("Number of the trial.", "N")]
    device: Annotated[str | None, Option("cpu, cuda or cuda:N.", unset="cpu, or cuda if the trial ran there")] = None
