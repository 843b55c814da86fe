"""Imports at the start of a program, without what takes long and finds nothing."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

_PLUGINS, _BLAS_THREADS = "PYDANTIC_DISABLE_PLUGINS", "OPENBLAS_NUM_THREADS"


@contextmanager
def importing() -> Iterator[None]:
    """Put off garbage collection while modules are imported, and exempt them from it afterwards.

    Modules make many objects that stay. Looking through them again and again took an eighth of the time to import
    torch, and of the time until a run can plan.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


@contextmanager
def importing_ours() -> Iterator[None]:
    """As `importing`, for our own modules, whose pydantic models need no plugins; a user's models may have some."""
    with importing(), without_plugins():
        yield


@contextmanager
def without_plugins() -> Iterator[None]:
    """Let pydantic make models without looking for plugins, which reads the metadata of every installed package."""
    with _variable(_PLUGINS, "__all__"):
        yield


@contextmanager
def without_blas_threads() -> Iterator[None]:
    """Let numpy, if it is imported now, do its linear algebra in one thread.

    Its other threads look for work for a tenth of a second, on the cores that the workers start on.
    """
    with _variable(_BLAS_THREADS, os.environ.get(_BLAS_THREADS, "1")):
        yield


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
