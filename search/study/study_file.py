"""Reads a study file, or a study that comes with lm-search."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import UsageError
from search.storage.texts import printable
from search.study.names import SUFFIXES, is_study_file
from search.study.validation_messages import did_you_mean

if TYPE_CHECKING:
    from search.study.sweep_file import Sweep

# A larger file is not a study.
MAX_BYTES = 10_000_000


def builtin_studies() -> list[str]:
    """The names of the studies that come with lm-search."""
    files = resources.files("search.studies").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def run_argument(study: str) -> str:
    """What `run --study` takes for a study: its file if that is here, a built-in name, or else FILE.toml.

    Args:
        study: Its name in the database, or a study file.
    """
    if is_study_file(study):
        return study
    files = [f"{study}{suffix}" for suffix in SUFFIXES if os.path.isfile(f"{study}{suffix}")]
    return next(iter(files), study if study in builtin_studies() else "FILE.toml")


def read_study_file(study: str) -> tuple[str, dict[str, Any]]:
    """Read a study, not yet validated.

    Args:
        study: The name of a built-in study, or the path of a study file: TOML, or a sweep file of Weights & Biases.

    Returns:
        The file's name, and its content.

    Raises:
        UsageError: There is no such study, or the file cannot be read.
    """
    source, text = _read(study)
    if _is_sweep(study):
        return source, dict(_sweep(source, text).content)
    try:
        return source, tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, or thousands of brackets
        raise UsageError(f"{source} is not valid TOML: {printable(error)}") from error


def sweep_notes(study: str) -> Sequence[str]:
    """What was chosen where a sweep file has no counterpart in a study file; empty for any other study."""
    return _sweep(*_read(study)).notes if _is_sweep(study) else ()


def _sweep(source: str, text: str) -> Sweep:
    from search.study.sweep_file import read_sweep  # imports a reader of YAML

    return read_sweep(text, source)


def _is_sweep(study: str) -> bool:
    return is_study_file(study) and not study.endswith(".toml")


def _read(study: str) -> tuple[str, str]:
    choices = ", ".join(builtin_studies())
    if study in builtin_studies():
        return f"{study}.toml", (resources.files("search.studies") / f"{study}.toml").read_text(encoding="utf-8")
    if not is_study_file(study):
        raise UsageError(
            f"unknown study {study!r}; built-in studies: {choices}; or give the path of a .toml file"
            + _suggestion(study)
        )
    path = Path(study)
    try:
        found = path.stat()
        is_file = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)  # opening a folder says what it is
        if not is_file or found.st_size > MAX_BYTES:
            what = f"it has more than {MAX_BYTES} bytes" if is_file else "it is a pipe or a device"
            raise UsageError(f"cannot read the study file {study}: {what}; name a text file")
        # Some editors begin a file with a byte order mark, which TOML does not allow.
        return study, path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read the study file {study}: it is not UTF-8 text") from error
    except UsageError:
        raise
    except (OSError, ValueError) as error:
        fault = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"cannot read the study file {study}: {fault}; check the path, or name a built-in study: {choices}"
            + _suggestion(study)
        ) from error


def _suggestion(study: str) -> str:
    """The built-in study or the file beside it that a misspelt name may mean."""
    try:
        files = [str(path) for path in Path(study).parent.glob("*.toml") if str(path) != study]
    except (OSError, ValueError):  # a name that no file has
        files = []
    return did_you_mean(study, [*builtin_studies(), *files])
