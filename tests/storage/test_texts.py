"""Whatever an error says or an objective describes is stored, on every database; the bookkeeping never fails of it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_study import STUDY, optuna_trials, row

from search.storage.dashboard_attrs import show
from search.storage.database import Database
from search.storage.queue import TrialQueue
from search.storage.texts import MAX_TEXT, error_text, printable, shortened, storable_json, storable_text


class Mute:
    """An object without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class MuteError(Exception):
    """An error whose message cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


HOSTILE: list[Any] = ["a\0b", "a\ud800b", "\udcff", "x" * 100_000, "", "±\n\x1b[31m", Mute(), 3, None]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(type(text)))
def test_any_reason_is_stored(database: Database, queue: TrialQueue, storage_url: str, text: Any) -> None:
    attrs = {"text": text, "list": [text, {"deep": text}], "key\0\ud800": 1}
    first, second = (queue.claim([STUDY], owner)[0] for owner in ("ann", "bob"))
    queue.finish(first, "failed", None, attrs, text)
    queue.release(second, text)
    for number in (first.number, second.number):
        stored = row(database, number).reason
        assert stored is None or (len(stored) <= MAX_TEXT and "\0" not in stored)
        assert (stored or "").encode().decode() == (stored or "")
    [trial] = [each for each in optuna_trials(storage_url) if each.number == first.number]
    assert json.dumps(trial.user_attrs, ensure_ascii=False).encode()
    assert trial.user_attrs["outcome"] == "failed"


def test_any_note_is_stored(database: Database, queue: TrialQueue) -> None:
    show(database, STUDY, "a\0b\ud800" + "x" * 10**6, {"plot": {"title": "\0\ud800"}}, "val_loss")


def test_numbers_stay_numbers() -> None:
    attrs = {"a": np.float32(0.5), "b": np.int64(3), "c": True, "d": None, "e": (1, 2.5), "f": math.inf, "g": 10**30}
    assert json.loads(storable_json(attrs)) == {**attrs, "e": [1, 2.5], "b": 3}


def test_a_list_that_holds_itself_is_text() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert json.loads(storable_json(loop))


@given(st.text(), st.integers(1, 50))
def test_text_is_bounded_and_encodes(text: str, most: int) -> None:
    for made in (storable_text(text, most), printable(text, most)):
        assert len(made) <= most
        assert made.encode().decode() == made
        assert "\0" not in made
    assert printable(text).isprintable()
    assert storable_text(text, None) == text or not text.isprintable()


def test_what_is_cut_keeps_both_ends() -> None:
    assert shortened("begin" + "x" * 100 + "end", 20) == "beginxxxxxxxx…xxxend"
    assert shortened("short", 20) == "short"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("a\nb"), "ValueError: a"),
        (ValueError(), "ValueError"),
        (MuteError(), "MuteError: <MuteError, whose text cannot be made: RuntimeError>"),
        (KeyError("a\0b"), "KeyError: 'a\\x00b'"),
    ],
)
def test_an_error_is_one_line(error: Exception, text: str) -> None:
    assert error_text(error) == text
