"""Which names a study and its axes may have."""

from __future__ import annotations

import re

from search.study.cells import BASELINES_SUFFIX, CONFIRMATION_SUFFIX

# TOML; YAML is a sweep file of Weights & Biases.
SUFFIXES = (".toml", ".yaml", ".yml")


def is_study_file(study: str) -> bool:
    """Whether a study is given as a file, not by its name."""
    return study.endswith(SUFFIXES)


def name_fault(name: str) -> str | None:
    """What is wrong with a study's name, which is also the name of a folder; None if it is valid."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        return "write letters, digits, '.', '_' and '-', the first a letter or digit"
    if len(name) > 200:
        return f"it has {len(name)} characters; at most 200 are allowed"
    if name.endswith(BASELINES_SUFFIX):
        return f"names that end in {BASELINES_SUFFIX} are reserved for the baselines of other studies"
    if name.endswith(CONFIRMATION_SUFFIX):
        return f"names that end in {CONFIRMATION_SUFFIX} are reserved for the confirmations of other studies"
    return None


def check_axis_name(axis: str) -> None:
    """Check the name of an axis.

    Raises:
        ValueError: It is not valid.
    """
    if axis == "seed":
        raise ValueError("seed is not an axis; write seeds = N and first_seed = N at the top of the file")
    if not axis.isidentifier():
        raise ValueError(
            f"{axis!r} is not a valid name of an axis; write letters, digits and '_', the first not a digit"
        )
