"""The command line's options, written once for all programs that share them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_STORAGE = "sqlite:///search.db"
DEFAULT_OUT = Path("search-out")
DEFAULT_STORAGE_WAIT_S = 60.0
DEFAULT_FUSE = "auto"

StudyOption = Annotated[
    str, typer.Option(help="A built-in study, such as bigram, or the path of a study file.", metavar="NAME|FILE.toml")
]
StorageOption = Annotated[
    str, typer.Option(help="Database that the workers share.", metavar="URL", envvar="SEARCH_STORAGE")
]
NameOption = Annotated[
    str | None, typer.Option(help="Name of the study in the database.  [default: that of the definition]")
]
WorkersOption = Annotated[
    str,
    typer.Option(help="Worker processes: auto is one a GPU, or one a core.", metavar="auto|N", envvar="SEARCH_WORKERS"),
]
DevicesOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda (all GPUs) or cuda:0,1.", metavar="DEVICES", envvar="SEARCH_DEVICES")
]
SeedsOption = Annotated[
    int | None, typer.Option(help="Trials of each cell.  [default: that of the study]", min=1, envvar="SEARCH_SEEDS")
]
PrunerOption = Annotated[
    str | None,
    typer.Option(
        help="none, top, median, sha or hyperband.  [default: that of the study]",
        metavar="NAME",
        envvar="SEARCH_PRUNER",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override an axis or a setting; may be repeated.",
        metavar="KEY=V[,V…]",
        envvar="SEARCH_SET",
    ),
]
BaselinesOption = Annotated[bool, typer.Option("--baselines/--no-baselines", help="Train the study's baselines too.")]
CorpusOption = Annotated[
    Path | None,
    typer.Option(
        help="UTF-8 text to train on.  [default: that of the study file, else tiny shakespeare]",
        metavar="FILE",
        envvar="SEARCH_CORPUS",
    ),
]
OutOption = Annotated[Path, typer.Option(help="Folder for checkpoints and logs.", metavar="DIR", envvar="SEARCH_OUT")]
ArtifactsOption = Annotated[
    str | None,
    typer.Option(
        help="Where the files of finished trials are kept: a folder, s3://bucket/prefix, or none.  "
        "[default: artifacts, in the folder --out]",
        metavar="DIR|URL",
        envvar="SEARCH_ARTIFACTS",
    ),
]
StorageWaitOption = Annotated[
    float, typer.Option(help="Wait so long for a database that is starting.", metavar="SECONDS", min=0)
]
FuseOption = Annotated[
    str,
    typer.Option(
        help="Trials of one shape that a worker trains as one model: auto (GPUs only, probed), off, or a number.",
        metavar="auto|off|N",
        envvar="SEARCH_FUSE",
    ),
]
ProfileOption = Annotated[bool, typer.Option("--profile", help="Show where the workers' time went.")]
FromOption = Annotated[
    str | None, typer.Option("--from", help="Show the sampler the complete cells of another study.", metavar="STUDY")
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
