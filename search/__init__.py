"""Hyperparameter search: the programs run, worker, report, status, …, and `run_study` for notebooks."""

from __future__ import annotations

import sys

# `python -m search.…` puts the working directory first, where a file such as optuna.py or numbers.py would shadow what
# loads later. So it goes last before anything else is imported; "-m" stands there only until the program is found.
if getattr(sys, "argv", [])[:1] == ["-m"] and not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))

TYPE_CHECKING = False  # as mypy knows it; importing it from typing would be one of those imports
if TYPE_CHECKING:
    from typing import Any

    from search.service import run_study

__all__ = ["run_study"]


def __getattr__(name: str) -> Any:
    # Lazy, since `python -m search.run --help` also imports this package and must not wait for Optuna.
    if name == "run_study":
        from search.service import run_study

        return run_study
    raise AttributeError(f"module 'search' has no attribute {name!r}")
