"""Imports at the start of a program, without what takes long and finds nothing."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"


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
    before = os.environ.get(_PLUGINS)
    os.environ[_PLUGINS] = "__all__"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PLUGINS]
        else:
            os.environ[_PLUGINS] = before
