"""The default objective: trains a next-character model on a corpus.

torch is imported only where a run is made, so programs that only plan or report do not load it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from search.models.registry import build_model
from search.objectives.corpus import Corpus
from search.objectives.language_model.cells import check_cell, check_logits, read_cell
from search.objectives.language_model.settings import LanguageModelSettings
from search.objectives.protocol import TRAIN_LOSS, Objective, RunGroup, TrainingRun
from search.objectives.settings import TrainingSettings

if TYPE_CHECKING:
    from search.objectives.language_model.memory_need import MemoryNeed
    from search.objectives.language_model.run import LanguageModelRun


class LanguageModelObjective(Objective):
    """Trains a next-character model on a text; registered as "language_model"."""

    takes_corpus = True
    can_stack = True
    counts_flops: Literal[True] = True

    def __init__(self) -> None:
        self._memories: dict[str, MemoryNeed] = {}  # by device

    @property
    def settings_class(self) -> type[TrainingSettings]:
        """Those of language models."""
        return LanguageModelSettings

    def metric_names(self, settings: TrainingSettings) -> Sequence[str]:
        """The two losses."""
        return (self.metric, TRAIN_LOSS)

    def prepare(self) -> None:
        """Import torch."""
        import search.objectives.language_model.run
        import search.objectives.language_model.stacked_runs  # noqa: F401

    def check_cell(self, cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus | None) -> None:
        """As `search.objectives.language_model.cells.check_cell`."""
        check_cell(cell, settings, _require_corpus(corpus))

    def start(
        self, cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> LanguageModelRun:
        """As `start` below."""
        return start(cell, seed, settings, _require_corpus(corpus), device)

    def operations(self, cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus | None) -> float | None:
        """As `search.objectives.operations.CountsOperations`."""
        import torch

        from search.objectives.language_model.flops import flops_of

        run, threads = start(cell, 0, settings, _require_corpus(corpus), "cpu"), torch.get_num_threads()
        torch.set_num_threads(1)  # small products on several threads take more of the CPUs, and here no less time
        try:
            counted, steps = flops_of(run), run.settings.max_iters
        finally:
            torch.set_num_threads(threads)
        return None if counted is None else counted.total(steps, 1 + math.ceil(steps / run.settings.eval_interval))

    def stack_runs(self, runs: Sequence[TrainingRun]) -> RunGroup:
        """Group runs of one device and corpus, to train them at the same time."""
        from search.objectives.language_model.accelerated_group import AcceleratedGroup
        from search.objectives.language_model.stacked_runs import RunGroup as StackedRuns

        of_model = cast("Sequence[LanguageModelRun]", runs)
        device = of_model[0].device
        if device.type == "cpu":
            return cast(RunGroup, StackedRuns(of_model))
        return cast(RunGroup, AcceleratedGroup(of_model, self._memory(str(device))))

    def memory_share(
        self, cell: Mapping[str, Any], settings: TrainingSettings, corpus: Corpus | None, device: str
    ) -> float | None:
        """As `search.objectives.language_model.memory_need`; None on a CPU, where shapes take turns."""
        if device == "cpu":
            return None
        text = _require_corpus(corpus)
        return self._memory(device).share(read_cell(cell, settings, text), text.vocab_size)

    def _memory(self, device: str) -> MemoryNeed:
        import torch

        from search.objectives.language_model.memory_need import MemoryNeed

        return self._memories.setdefault(device, MemoryNeed(torch.device(device)))


def start(
    cell: Mapping[str, Any], seed: int, settings: TrainingSettings, corpus: Corpus, device: str
) -> LanguageModelRun:
    """Make a run at step 0.

    Args:
        cell: "model", "block_size", the model's arguments, and any training settings that are an axis.
        seed: The same seed gives every cell the same stream of random numbers.
        settings: What applies where the cell has no value.
        corpus: The text.
        device: As torch names it: "cpu", "cuda:0".

    Returns:
        The run.

    Raises:
        ObjectiveError: As for `search.objectives.language_model.cells.check_cell`.
        CorpusError: As for `search.objectives.language_model.cells.check_cell`.
        ModelError: As for `search.objectives.language_model.cells.check_cell`.
    """
    import torch

    from search.objectives.language_model.run import LanguageModelRun

    read = read_cell(cell, settings, corpus)
    model = build_model(read.model, read.arguments, seed)
    check_logits(model, read, corpus.vocab_size)
    identity = {"cell": dict(cell), "seed": seed, "settings": read.settings.as_dict(), "corpus": corpus.sha256}
    fingerprint = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    place = torch.device(device)
    return LanguageModelRun(read, seed, corpus, model.to(place), place, fingerprint)


def _require_corpus(corpus: Corpus | None) -> Corpus:
    assert corpus is not None, "the objective takes a corpus, and read_corpus returns one"
    return corpus
