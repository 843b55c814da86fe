"""Hyperparameter search: the programs run, worker, report, status, …, and `run_study` for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.service import run_study

__all__ = ["run_study"]


def __getattr__(name: str) -> Any:
    # Lazy, since `python -m search.run --help` also imports this package and must not wait for Optuna.
    if name == "run_study":
        from search.service import run_study

        return run_study
    raise AttributeError(f"module 'search' has no attribute {name!r}")
