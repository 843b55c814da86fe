"""Text that nothing was selected on: other plays, a reserved stretch, and the losses of a run on it."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import pytest

from search.objectives.corpus import Corpus, check_length, encode, load_corpus
from search.objectives.errors import CorpusError
from search.objectives.held_out import held_out_text, reserve
from search.objectives.language_model.objective import start
from search.objectives.protocol import TRAIN_LOSS, VAL_LOSS
from search.objectives.settings import TrainingSettings

CELL = {"model": "bigram_v2", "block_size": 8, "n_embd": 8, "pe_type": "rope"}
TEXT = "".join(f"{number} green bottles, hanging on the wall;\n" for number in range(100))


def test_other_plays_have_the_characters_of_tiny_shakespeare_and_none_of_its_text() -> None:
    corpus = load_corpus()
    held_out = held_out_text(corpus)
    assert held_out is not None
    text = corpus.decode(held_out.tokens.tolist())
    # A replay needs the same text in a later version.
    assert held_out.sha256 == "a2ce6bdd500befa94b0e5649cb111746b48ab1b7f89e696d1c0d80067726faf3"
    assert len(text) == 290_011
    speeches = {speech for speech in text.split("\n\n") if len(speech) > 100}
    assert len(speeches) > 500
    whole = corpus.decode(corpus.tokens.tolist())
    assert not [speech for speech in speeches if speech in whole]


def test_a_reserved_stretch_is_the_end_of_the_text_and_in_no_other_part() -> None:
    corpus = reserve(encode("mine.txt", TEXT))
    held_out = held_out_text(corpus)
    assert held_out is not None
    parts = [corpus.train, corpus.selection, held_out.tokens]
    assert corpus.decode(np.concatenate(parts).tolist()) == TEXT
    assert len(held_out.tokens) == len(TEXT) // 10
    assert held_out.name == "the last 10 % of mine.txt"


def test_a_text_without_a_reserve_has_nothing_held_out() -> None:
    assert held_out_text(encode("mine.txt", TEXT)) is None


def test_a_reserve_that_is_too_short_is_refused() -> None:
    with pytest.raises(CorpusError, match=r"too short to reserve a tenth .* 30 characters of at least 33"):
        check_length(reserve(encode("mine.txt", "abc" * 100)), 32)


def confirmed(corpus: Corpus) -> Corpus:
    return dataclasses.replace(corpus, held_out=held_out_text(corpus))


@pytest.mark.parametrize("evaluation", ["full", "sampled"])
def test_a_run_reports_both_losses_and_trains_as_without_the_held_out_text(
    evaluation: Literal["full", "sampled"],
) -> None:
    settings = TrainingSettings(
        batch_size=4, max_iters=6, eval_interval=2, evaluation=evaluation, eval_batches=2, sample_chars=0
    )
    corpus = reserve(encode("mine.txt", TEXT))
    plain, both = (start(CELL, 7, settings, each, "cpu") for each in (corpus, confirmed(corpus)))
    while not plain.finished:
        expected, found = plain.advance(lambda: False), both.advance(lambda: False)
        assert expected is not None
        assert found is not None
        assert found.metrics == {TRAIN_LOSS: expected.train_loss, VAL_LOSS: expected.value}
        assert found.value != expected.value
    assert both.finished
    again = start(CELL, 7, settings, confirmed(corpus), "cpu")
    again.restore(both.save())
    assert again.curve == both.curve
