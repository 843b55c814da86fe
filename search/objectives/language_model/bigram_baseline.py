"""The loss of counting pairs: a model must beat it to have learned more than which character follows which."""

from __future__ import annotations

import numpy as np

from search.objectives.corpus import Corpus


def bigram_baseline_loss(corpus: Corpus) -> float | None:
    """Validation loss of the bigram model that counts: P(b | a) = (pairs ab + 1) / (pairs a* + V), add-one smoothing.

    Without smoothing, a pair that the training text lacks would make the loss infinite. Every pair of adjacent
    characters in the validation text counts once.

    Args:
        corpus: Counted on its training text, scored on its validation text.

    Returns:
        Mean loss in nats per character; None for a validation text of fewer than two characters.
    """
    size = corpus.vocab_size
    train = corpus.train[:-1] * size + corpus.train[1:]  # a pair as one number
    scored = corpus.validation[:-1] * size + corpus.validation[1:]
    if len(scored) == 0:
        return None
    # Only the pairs that occur: the square of a vocabulary of thousands would not fit into memory.
    pairs, pair_counts = np.unique(train, return_counts=True)
    firsts = np.bincount(corpus.train[:-1], minlength=size)  # (V,) how often each character is followed by one
    seen = np.zeros(len(scored))
    if len(pairs):
        at = np.minimum(np.searchsorted(pairs, scored), len(pairs) - 1)
        seen = np.where(pairs[at] == scored, pair_counts[at], 0)
    chances = (seen + 1) / (firsts[corpus.validation[:-1]] + size)
    return float(-np.log(chances).mean())
