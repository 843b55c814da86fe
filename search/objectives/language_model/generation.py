"""Text written by a trained model."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import nn

from search.objectives.corpus import Corpus
from search.objectives.errors import CorpusError
from search.objectives.language_model.evaluation import evaluating
from search.objectives.language_model.rng import generator_for

log = logging.getLogger("objectives")


def sample_text(
    model: nn.Module, corpus: Corpus, length: int, block_size: int, seed: int, device: torch.device | str
) -> str:
    """Generate text with a model, one id at a time.

    Args:
        model: From (1, T') int64 to logits (1, T', V), T' <= block_size.
        corpus: Defines the ids; the text starts after a newline, or if there is none, after id 0.
        length: Ids to generate; the start is not counted.
        block_size: How many of the last ids the model sees.
        seed: The seed of the run; the draws use a separate generator.
        device: The model's device.

    Returns:
        The text of `length` ids; "" if they cannot be decoded.
    """
    if not corpus.vocabulary.can_decode:
        return ""
    start = corpus.vocabulary.start
    generator = generator_for(seed, "sample")
    written = [start]
    with evaluating(model):
        for _ in range(length):
            context = torch.tensor([written[-block_size:]], device=device)
            probabilities = model(context)[0, -1].softmax(dim=-1).cpu()  # (V,): drawn on the CPU on every device
            written.append(int(torch.multinomial(probabilities, 1, generator=generator).item()))
    return decoded(corpus, written[1:])


def decoded(corpus: Corpus, ids: Sequence[int]) -> str:
    """The text of ids; "" if they cannot be decoded."""
    try:
        return corpus.decode(ids)
    except CorpusError as error:  # of an untrained model's ids, for instance: the losses count all the same
        log.warning("no text sample: %s", error)
        return ""
