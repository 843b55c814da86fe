"""The objective of a study that names no other: a next-character model is trained on a corpus."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from search.models.registry import build_model
from search.objectives.corpus import Corpus
from search.objectives.language_model.cells import check_cell, check_logits, read_cell
from search.objectives.language_model.group_size_search import best_group_size
from search.objectives.language_model.run import LanguageModelRun
from search.objectives.language_model.stacked_runs import RunGroup
from search.objectives.settings import TrainingSettings

# What `search.objectives.protocol` looks for in the module of an objective.
__all__ = ["check_cell", "group_size", "stack_runs", "start"]


def start(
    cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Corpus, device: str
) -> LanguageModelRun:
    """Make a run that has not taken a step.

    Args:
        cell: "model", "block_size", the model's arguments, and any training settings that are an axis.
        seed: The same seed gives every cell the same stream of random numbers.
        settings: What holds where the cell says nothing.
        corpus: The text.
        device: As torch names it: "cpu", "cuda:0".

    Returns:
        The run.

    Raises:
        ObjectiveError: As for `search.objectives.language_model.cells.check_cell`.
        CorpusError: As for `search.objectives.language_model.cells.check_cell`.
        ModelError: As for `search.objectives.language_model.cells.check_cell`.
    """
    read = read_cell(cell, settings, corpus)
    model = build_model(read.model, read.arguments, seed)
    check_logits(model, read, corpus.vocab_size)
    identity = {"cell": dict(cell), "seed": seed, "settings": read.settings.model_dump(), "corpus": corpus.sha256}
    fingerprint = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    place = torch.device(device)
    return LanguageModelRun(read, seed, corpus, model.to(place), place, fingerprint)


def stack_runs(runs: Sequence[LanguageModelRun]) -> RunGroup:
    """Group runs of one device and corpus, to be trained at the same time."""
    return RunGroup(runs)


def group_size(cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus, device: str) -> int:
    """Measure how many runs of a cell's shape are best trained at the same time; a few seconds on a GPU.

    Args:
        cell, settings, corpus, device: As for `start`.
    """
    return best_group_size(lambda seed: start(cell, seed, settings, corpus, device), torch.device(device))
