"""Replays a training step on a GPU as one CUDA graph: its dozens of small kernels are launched by a single call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

log = logging.getLogger("objectives")

# Steps before the capture, on a stream of their own: libraries set themselves up in the first ones, and what they do
# for that cannot be captured. They are steps of the training like all others.
EAGER_STEPS = 3


class Graph(Protocol):
    """What was captured."""

    def replay(self) -> None:
        """Do it again, with what its tensors hold now."""
        ...


class CudaCapture:
    """Captures on a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def aside(self, work: Callable[[], None]) -> None:
        """Do the work on another stream than the one that is current."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> Graph:
        """Record the work; nothing of it is done.

        Raises:
            RuntimeError: It cannot be recorded, since it looks at a tensor's value, for instance.
        """
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            work()
        return graph


class GraphedStep:
    """A step that is captured once it has been taken a few times, and replayed from then on.

    Args:
        step: Takes one step from where batches start; touches no other input that changes, and looks at no value.
        like: What `step` takes looks like; (E, B) int64 on the CPU.
        device: Where the step happens.
        capture: How to capture.
    """

    def __init__(
        self, step: Callable[[Tensor], None], like: Tensor, device: torch.device, capture: CudaCapture
    ) -> None:
        self._input = torch.empty_like(like, device=device)
        self._step, self._capture = step, capture
        self._taken = 0
        self._graph: Graph | None = None

    def __call__(self, starts: Tensor) -> None:
        """Take a step; starts as `like`."""
        # From pinned memory the copy does not wait for the device, and the device not for the copy.
        pinned = starts.pin_memory() if self._input.device.type == "cuda" else starts
        self._input.copy_(pinned, non_blocking=True)
        if self._graph is not None:
            self._graph.replay()
            return
        self._taken += 1
        if self._taken <= EAGER_STEPS or self._taken > EAGER_STEPS + 1:
            self._capture.aside(self._work)
            return
        try:
            self._graph = self._capture.capture(self._work)
        except RuntimeError as error:
            log.warning("no CUDA graph of this step, it is launched kernel by kernel: %s", str(error).splitlines()[0])
            self._capture.aside(self._work)
        else:
            self._graph.replay()

    def _work(self) -> None:
        self._step(self._input)
