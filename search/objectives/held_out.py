"""Text that no cell of a study was selected on: other plays, a test text, or a stretch that was reserved. No torch."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from search.objectives import shakespeare
from search.objectives.corpus import Corpus, HeldOutText, sha256_of
from search.objectives.vocabulary import Tokens

RESERVED_SHARE = 0.1  # of the text, from the end
RESERVED_SHARE_OF_VALIDATION = 0.5  # of the validation text of a folder with a split of its own, from the end


def reserve(corpus: Corpus) -> Corpus:
    """The same text without a stretch that is kept for a confirmation, which no trial of the study sees.

    It is the last tenth, or of a folder with a split of its own the second half of its validation text.
    """
    if corpus.own_validation is None:
        n = len(corpus.tokens) - int(RESERVED_SHARE * len(corpus.tokens))
        return replace(corpus, tokens=corpus.tokens[:n], reserved=corpus.tokens[n:])
    validation = corpus.own_validation
    n = len(validation) - int(RESERVED_SHARE_OF_VALIDATION * len(validation))
    return replace(corpus, own_validation=validation[:n], reserved=validation[n:])


def reserved_share(corpus: Corpus) -> str:
    """What `reserve` keeps of a corpus, in words."""
    own = corpus.own_validation is not None
    return f"half of the validation text of {corpus.name}" if own else f"a tenth of {corpus.name}"


def held_out_text(corpus: Corpus) -> HeldOutText | None:
    """The text that no cell was selected on; None for a corpus without a test text of which nothing was reserved.

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
    if corpus.test is not None:
        return HeldOutText(f"the test text of {corpus.name}", _sha256(corpus, corpus.test), corpus.test)
    if corpus.reserved is None:
        return None
    name = f"the last {RESERVED_SHARE:.0%} of {corpus.name}".replace("%", " %")
    if corpus.own_validation is not None:
        name = f"the second half of the validation text of {corpus.name}"
    return HeldOutText(name, _sha256(corpus, corpus.reserved), corpus.reserved)


def _sha256(corpus: Corpus, tokens: Tokens) -> str:
    if not corpus.is_mapped:
        return sha256_of(corpus.decode(tokens))
    return hashlib.sha256(np.ascontiguousarray(tokens).data).hexdigest()
