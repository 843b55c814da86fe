"""The counted bigram's loss, beside a count by hand and beside sums written out."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter

import pytest

from search.objectives.corpus import encode
from search.objectives.language_model.bigram_baseline import bigram_baseline_loss


def test_by_hand() -> None:
    # Training text "abababab…" of 18 characters: a is followed by b 9 times, b by a 8 times; validation text "aa".
    corpus = encode("text", "ab" * 9 + "aa")
    assert bigram_baseline_loss(corpus) == pytest.approx(-math.log((0 + 1) / (9 + 2)))


def test_beside_plain_counting() -> None:
    text = "to be or not to be, that is the question: whether 'tis nobler in the mind to suffer" * 3
    corpus = encode("text", text)
    train, validation = text[: corpus.n_train], text[corpus.n_train :]
    pairs, firsts = Counter(itertools.pairwise(train)), Counter(train[:-1])
    losses = [-math.log((pairs[a, b] + 1) / (firsts[a] + corpus.vocab_size)) for a, b in itertools.pairwise(validation)]
    assert bigram_baseline_loss(corpus) == pytest.approx(sum(losses) / len(losses))


@pytest.mark.parametrize("text", ["a", "ab", "to be"])
def test_text_without_a_pair_to_score(text: str) -> None:
    assert bigram_baseline_loss(encode("text", text)) is None


def test_many_characters_need_no_square_of_them() -> None:
    # 50,000 different characters: a full table of their pairs would take 20 GB.
    corpus = encode("text", "".join(chr(0x10000 + at) for at in range(50_000)) * 2)
    begun = time.monotonic()
    assert bigram_baseline_loss(corpus) == pytest.approx(-math.log(2 / (50_000 + 2)), rel=1e-3)
    assert time.monotonic() - begun < 10
