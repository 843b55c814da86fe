"""Text written by a trained model."""

from __future__ import annotations

import torch
from torch import nn

from search.objectives.corpus import Corpus
from search.objectives.language_model.rng import generator_for


def sample_text(
    model: nn.Module, corpus: Corpus, length: int, block_size: int, seed: int, device: torch.device | str
) -> str:
    """Let a model write, one character after the other.

    Args:
        model: From (1, T') int64 to logits (1, T', V), T' <= block_size.
        corpus: Gives the characters; the text starts after a newline, or its first character when it has none.
        length: Characters to write; the start is not counted.
        block_size: Characters that the model sees of what it wrote.
        seed: The seed of the run; the draws have a generator of their own.
        device: Where the model lives.

    Returns:
        `length` characters of the corpus's vocabulary.
    """
    start = corpus.characters.index("\n") if "\n" in corpus.characters else 0
    generator = generator_for(seed, "sample")
    written = [start]
    training = model.training
    model.eval()
    with torch.inference_mode():
        for _ in range(length):
            context = torch.tensor([written[-block_size:]], device=device)
            probabilities = model(context)[0, -1].softmax(dim=-1).cpu()  # (V,): drawn on the CPU on every device
            written.append(int(torch.multinomial(probabilities, 1, generator=generator).item()))
    model.train(training)
    return corpus.decode(written[1:])
