"""Text that no cell of a study was selected on: other plays, or a stretch that was reserved. No torch here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from search.objectives import shakespeare
from search.objectives.corpus import Corpus, HeldOutText, sha256_of

RESERVED_SHARE = 0.1  # of the characters, from the end


def reserve(corpus: Corpus) -> Corpus:
    """The same text without its last tenth, which is kept for a confirmation: no trial of the study sees it."""
    n = len(corpus.tokens) - int(RESERVED_SHARE * len(corpus.tokens))
    return replace(corpus, tokens=corpus.tokens[:n], reserved=corpus.tokens[n:])


def held_out_text(corpus: Corpus) -> HeldOutText | None:
    """The text that no cell was selected on; None if nothing was reserved of a text other than tiny shakespeare.

    Raises:
        CorpusError: The other plays cannot be read.
    """
    if corpus.is_tiny_shakespeare:
        known = set(corpus.characters)
        text = "".join(character for character in shakespeare.other_plays() if character in known)
        index = {character: position for position, character in enumerate(corpus.characters)}
        tokens = np.array([index[character] for character in text], dtype=np.int64)
        tokens.flags.writeable = False
        return HeldOutText("the plays outside tiny shakespeare", sha256_of(text), tokens)
    if corpus.reserved is None:
        return None
    share = f"the last {RESERVED_SHARE:.0%} of {corpus.name}".replace("%", " %")
    return HeldOutText(share, sha256_of(corpus.decode(corpus.reserved)), corpus.reserved)
