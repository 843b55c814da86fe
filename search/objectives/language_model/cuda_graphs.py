"""Replays a training step on a GPU as one CUDA graph: one call launches its dozens of small kernels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

log = logging.getLogger("objectives")

# Steps before the capture, on a separate stream: libraries initialize themselves in the first ones, which cannot be
# captured. They are ordinary training steps.
EAGER_STEPS = 3


class Graph(Protocol):
    """A captured graph."""

    def replay(self) -> None:
        """Run it again on the current values of its tensors."""
        ...


class CudaCapture:
    """Captures work on a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def run_aside(self, work: Callable[[], None]) -> None:
        """Run the work on a separate stream."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> Graph:
        """Record the work without running it.

        Raises:
            RuntimeError: The work cannot be recorded, for instance because it reads a tensor's value.
        """
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            work()
        return graph


class GraphedStep:
    """A step that is captured after a few ordinary runs, and replayed from then on.

    Args:
        step: Takes one step, given where batches start; uses no other input that changes, and reads no tensor's value.
        like: A tensor of the shape and type of the batch starts; (E, B) int64 on the CPU.
        device: The device of the step.
        capture: Captures the step.
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
        # A copy from pinned memory does not wait for the device, nor the device for the copy.
        pinned = starts.pin_memory() if self._input.device.type == "cuda" else starts
        self._input.copy_(pinned, non_blocking=True)
        if self._graph is not None:
            self._graph.replay()
            return
        self._taken += 1
        if self._taken <= EAGER_STEPS or self._taken > EAGER_STEPS + 1:
            self._capture.run_aside(self._work)
            return
        try:
            self._graph = self._capture.capture(self._work)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            log.warning("cannot capture this step as a CUDA graph, so it runs kernel by kernel: %s", reason)
            self._capture.run_aside(self._work)
        else:
            self._graph.replay()

    def _work(self) -> None:
        self._step(self._input)
