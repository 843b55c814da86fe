from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from search.objectives.language_model.cuda_graphs import EAGER_STEPS, CudaCapture, Graph, GraphedStep


class PretendedCapture(CudaCapture):
    """Does what a CUDA capture does, as far as it matters here: it records work without doing it."""

    def __init__(self, fails: bool = False) -> None:
        self.captured = self.eager = self.replayed = 0
        self._fails = fails

    def run_aside(self, work: Callable[[], None]) -> None:
        self.eager += 1
        work()

    def capture(self, work: Callable[[], None]) -> Graph:
        self.captured += 1
        if self._fails:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        owner = self

        class Recorded:
            def replay(self) -> None:
                owner.replayed += 1
                work()

        return Recorded()


def steps_of(capture: PretendedCapture, count: int) -> list[list[int]]:
    taken: list[list[int]] = []

    def step(starts: Tensor) -> None:
        taken.append(starts.tolist())

    graphed = GraphedStep(step, torch.empty(3, dtype=torch.int64), torch.device("cpu"), capture)
    for i in range(count):
        graphed(torch.tensor([i, i + 1, i + 2]))
    return taken


def test_each_step_is_taken_once_with_its_own_batch() -> None:
    capture = PretendedCapture()
    assert steps_of(capture, 10) == [[i, i + 1, i + 2] for i in range(10)]
    assert (capture.eager, capture.captured, capture.replayed) == (EAGER_STEPS, 1, 10 - EAGER_STEPS)


def test_what_cannot_be_captured_is_launched_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    capture = PretendedCapture(fails=True)
    assert steps_of(capture, 10) == [[i, i + 1, i + 2] for i in range(10)]
    assert (capture.eager, capture.captured, capture.replayed) == (10, 1, 0)
    assert caplog.messages == [
        "cannot capture this step as a CUDA graph, so it runs kernel by kernel: "
        "operation not permitted when stream is capturing"
    ]
