"""Declares every option once: a field is a command-line option, an environment variable and a `run_study` argument.

A program takes one class, composed of smaller ones; `--help` lists the options of the last base class first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from search.option_fields import Option, Options
from search.shared_options import (
    BaselinesOptions,
    CorpusOptions,
    FolderOptions,
    JsonOptions,
    NameOptions,
    QuietOptions,
    StorageOptions,
    StudyOptions,
    as_texts,
)

# A setting is a text, as on the command line, or a key and a Python value.
Setting = str | tuple[str, Any]


def as_settings(settings: Mapping[str, Any] | Sequence[Setting] | str) -> tuple[Setting, ...]:
    """Settings of a Python caller: {"n_embd": [64, 128]} becomes (("n_embd", [64, 128]),)."""
    if isinstance(settings, str):
        return (settings,)
    return tuple(settings.items()) if isinstance(settings, Mapping) else tuple(settings)


def as_cells(cells: Sequence[Any] | Mapping[str, Any] | str) -> tuple[Any, ...]:
    """One cell, or several: texts, or values by axis."""
    return (cells,) if isinstance(cells, (str, Mapping)) else tuple(cells)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DefinitionOptions(Options):
    """Overrides of a study's definition, applied when it is planned."""

    seeds: Annotated[
        str | None,
        Option(
            "Trials of each cell; auto gives further seeds where they decide something.",
            "N|auto",
            env="SEARCH_SEEDS",
            unset="that of the study",
            convert=str,
        ),
    ] = None
    confirm: Annotated[
        int | None,
        Option(
            "At the end, train the best cell and the runner-up with this many fresh seeds, on held-out text.",
            "N",
            unset="that of the study",
            minimum=0,
        ),
    ] = None
    pruner: Annotated[
        str | None,
        Option(
            "none, top, median, sha, hyperband, or any Optuna pruner as NAME(ARGUMENTS).",
            "NAME",
            env="SEARCH_PRUNER",
            unset="that of the study",
        ),
    ] = None
    settings: Annotated[
        tuple[Setting, ...],
        Option(
            "Override an axis or a setting; may be repeated.",
            "KEY=V[,V…]",
            flag="--set",
            env="SEARCH_SET",
            convert=as_settings,
        ),
    ] = ()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrainingOptions(FolderOptions, NameOptions, CorpusOptions, BaselinesOptions, StudyOptions):
    """The options that `search.run` shares with its workers."""

    fuse: Annotated[
        str,
        Option(
            "Trials of one shape that a worker trains as one model: auto (GPUs only, measured), off, or a number.",
            "auto|off|N",
            env="SEARCH_FUSE",
            convert=str,
        ),
    ] = "auto"
    profile: Annotated[bool, Option("Show how the workers spent their time.")] = False


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PlanningOptions(DefinitionOptions, TrainingOptions):
    """The options that determine the trials of a study, and when it is done."""

    enqueue: Annotated[
        tuple[str, ...], Option("Train this cell first; may be repeated.", "AXIS=V[,AXIS=V…]", convert=as_cells)
    ] = ()
    warm_start: Annotated[
        str | None, Option("Show the sampler the complete cells of another study.", "STUDY", flag="--from")
    ] = None
    target: Annotated[
        float | None, Option("Stop when a complete trial has this value of the metric or a better one.", "VALUE")
    ] = None
    budget: Annotated[
        str | None,
        Option(
            "Begin no further trial once all have taken this much: device time, such as 30m or 8h, or 1e18flops.",
            "TIME|FLOPS",
            convert=str,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RunStudyOptions(QuietOptions, PlanningOptions):
    """The arguments of `run_study`."""

    workers: Annotated[
        str,
        Option("Number of workers: auto is one per GPU, or one per core.", "auto|N", env="SEARCH_WORKERS", convert=str),
    ] = "auto"
    devices: Annotated[str, Option("auto, cpu, cuda (all GPUs) or cuda:0,1.", "DEVICES", env="SEARCH_DEVICES")] = "auto"
    launcher: Annotated[
        str | None,
        Option(
            "What starts the workers: local, slurm, kubernetes, ray, external (others), or your own as module:Class.",
            "NAME",
            env="SEARCH_LAUNCHER",
            unset="that of [launcher] in the study file, or local",
        ),
    ] = None
    detach: Annotated[bool, Option("Leave the workers to the launcher, and return.")] = False
    track: Annotated[
        tuple[str, ...],
        Option(
            "Send results on: jsonl:FILE, tensorboard:FOLDER, mlflow:URI, wandb:PROJECT, webhook:URL or your own; "
            "may be repeated.",
            "NAME:TARGET",
            env="SEARCH_TRACK",
            convert=as_texts,
        ),
    ] = ()
    timeout_s: Annotated[
        float | None,
        Option("Stop after this many seconds; running trials can be resumed.", "SECONDS", flag="--timeout", minimum=0),
    ] = None
    dashboard: Annotated[bool, Option("Serve the dashboard during the run, and print its address.")] = False
    plan_only: Annotated[bool, Option("Plan the study without training.")] = False
    resume_stopped: Annotated[bool, Option("Train what the objective left out with study.stop().")] = False


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RunOptions(JsonOptions, RunStudyOptions):
    """The options of `search.run`."""

    print: Annotated[bool, Option("Print what the launcher would submit, and do nothing.")] = False


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ChildOptions(Options):
    """The option of programs that `search.run` starts."""

    parent: Annotated[int | None, Option("End when this parent process ends.", hidden=True)] = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class WorkerOptions(ChildOptions, TrainingOptions):
    """The options of `search.worker`; a launcher sets the hidden ones."""

    device: Annotated[str, Option("cpu, cuda or cuda:N.", env="SEARCH_DEVICE")] = "cpu"
    owner: Annotated[str | None, Option("Name of this worker.", hidden=True)] = None
    modules: Annotated[Path | None, Option("Folder of the study's own modules.", hidden=True, convert=Path)] = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DashboardOptions(ChildOptions, FolderOptions, StorageOptions):
    """The options of `search.dashboard`."""

    host: Annotated[str, Option("Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Option("Port to listen on.", minimum=0, maximum=65535)] = 8080
    writable: Annotated[bool, Option("Let visitors change and delete studies.")] = False
    token_file: Annotated[
        Path | None,
        Option("File with the token that visitors must show; needed off loopback.", "FILE", convert=Path),
    ] = None
    allow_host: Annotated[
        tuple[str, ...],
        Option(
            "Name under which visitors reach it, besides localhost and --host; may be repeated.",
            "NAME",
            convert=as_texts,
        ),
    ] = ()
    no_token: Annotated[bool, Option("Listen off loopback without a token, for example behind a proxy.")] = False
