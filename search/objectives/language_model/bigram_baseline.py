"""The loss of counting pairs: a model must beat it to have learned more than which id follows which."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from search.objectives.corpus import Corpus
from search.objectives.vocabulary import Tokens

# Of a larger vocabulary not every pair can have a counter: 16 million take 128 MB.
MOST_COUNTED = 4096
IDS_PER_CHUNK = 1 << 22  # of a memory-mapped file, as int64


@functools.lru_cache(maxsize=4)  # planning asks several times
def bigram_baseline_loss(corpus: Corpus) -> float | None:
    """Validation loss of the bigram model that counts: P(b | a) = (pairs ab + 1) / (pairs a* + V), add-one smoothing.

    Without smoothing, a pair that the training text lacks would make the loss infinite. Every pair of adjacent
    ids in the validation text counts once.

    Args:
        corpus: Counted on its training text, scored on its validation text.

    Returns:
        Mean loss in nats per id; None for a validation text of fewer than two ids, and for files of tokens with more
        than `MOST_COUNTED` ids.
    """
    if len(corpus.validation) < 2:
        return None
    if corpus.vocab_size <= MOST_COUNTED:
        return _counted(corpus)
    return None if corpus.is_mapped else _sorted(corpus)


def _counted(corpus: Corpus) -> float:
    """With a counter for each of the V * V pairs, a chunk of the text at a time."""
    size = corpus.vocab_size
    counts = np.zeros(size * size, dtype=np.int64)
    for firsts, seconds in _pairs(corpus.train):
        counts += np.bincount(firsts * size + seconds, minlength=size * size)
    followed = counts.reshape(size, size).sum(axis=1)  # (V,) how often each id is followed by one
    total = 0.0
    for firsts, seconds in _pairs(corpus.validation):
        chances = (counts[firsts * size + seconds] + 1) / (followed[firsts] + size)
        total += float(-np.log(chances).sum())
    return total / (len(corpus.validation) - 1)


def _pairs(tokens: Tokens) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Each id but the last and the one that follows it, (n,) each, in chunks."""
    for at in range(0, len(tokens) - 1, IDS_PER_CHUNK):
        chunk = tokens[at : at + IDS_PER_CHUNK + 1].astype(np.int64)
        yield chunk[:-1], chunk[1:]


def _sorted(corpus: Corpus) -> float:
    """With only the pairs that occur: the square of a vocabulary of thousands would not fit into memory."""
    size = corpus.vocab_size
    train = corpus.train[:-1] * size + corpus.train[1:]  # a pair as one number
    scored = corpus.validation[:-1] * size + corpus.validation[1:]
    pairs, pair_counts = np.unique(train, return_counts=True)
    firsts = np.bincount(corpus.train[:-1], minlength=size)
    seen = np.zeros(len(scored))
    if len(pairs):
        at = np.minimum(np.searchsorted(pairs, scored), len(pairs) - 1)
        seen = np.where(pairs[at] == scored, pair_counts[at], 0)
    chances = (seen + 1) / (firsts[corpus.validation[:-1]] + size)
    return float(-np.log(chances).mean())
