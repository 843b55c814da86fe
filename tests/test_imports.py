"""Garbage collection is put off while a program imports, and goes on afterwards."""

from __future__ import annotations

import gc

import pytest

from search.imports import importing


def test_collection_goes_on_after_the_imports() -> None:
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()


def test_it_stays_off_where_it_was_off() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
