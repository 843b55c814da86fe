"""Lists in one text, as options of benchmarks have them."""

from __future__ import annotations

import re

import pytest

from benchmarks.list_options import names_of, numbers_of
from search.errors import UsageError


def test_lists_are_read() -> None:
    assert numbers_of("1,8,256") == [1, 8, 256]
    assert names_of("b,a", {"a": 1, "b": 2}) == ["b", "a"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("a", "a"), ("1,", ""), ("1,-2", "-2"), ("0", "0"), ("1.5,2", "1.5"), ("1, 2", " 2"), ("²", "²")],
)
def test_what_is_no_number_is_named(text: str, wrong: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(repr(wrong))}: write whole numbers from 1 on, such as 1,8$"):
        numbers_of(text)


def test_what_is_no_choice_is_named() -> None:
    with pytest.raises(UsageError, match=r"^'c': choices are a, b$"):
        names_of("a,c", ("a", "b"))
