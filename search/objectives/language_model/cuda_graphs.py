"""Work on a stream of its own, which on a CUDA device is captured as a graph once and replayed from then on.

A replay launches hundreds of small kernels with one call, and streams let the stacks of several shapes share a device.
"""

from __future__ import annotations

import logging
import math
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch

from search.objectives.errors import CaptureFailed
from search.objectives.torch_setup import order_of_sums, product_precision

log = logging.getLogger("objectives")

# Replays that may wait on a stream: enough that the device never waits for the next, few enough that a stop, which
# waits for them, takes no longer than a few steps.
IN_FLIGHT = 4
# Steps of one graph. On an H100 a replay takes the host up to 86 us, so with stacks of 26 shapes the device waits for
# graphs of one step, and graphs of ten are no faster than those of five. Each step more takes 10 ms once.
MAX_STEPS = 3
_WAIT = "called a synchronizing CUDA operation"
_NOT_THE_USERS = (
    Path(torch.__file__).parent,
    Path(__file__).parent.parent.parent,
    Path(warnings.formatwarning.__code__.co_filename),
)


class Graph(Protocol):
    """A captured graph."""

    def replay(self) -> None:
        """Run it again on the current values of its tensors."""
        ...

    def reset(self) -> None:
        """Free its memory."""
        ...


class Lane:
    """A stream with the graphs that are captured on it; on other devices than CUDA every call just does the work.

    Work is given to each call and never kept: a lane that kept it would keep the stack that it belongs to alive.

    Args:
        device: Where the work is done.
        tf32: Whether its products are computed in TF32.
    """

    def __init__(self, device: torch.device, tf32: bool = False) -> None:
        self._device, self._tf32 = device, tf32
        self._graphs: dict[str, Graph] = {}
        self._tried: set[str] = set()
        self._uncaptured: set[str] = set()
        self._in_flight: deque[torch.cuda.Event] = deque()
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._pool = torch.cuda.graph_pool_handle()
            self._stream.wait_stream(torch.cuda.current_stream(device))  # what was made so far is there

    def active(self) -> AbstractContextManager[object]:
        """Make its stream the current one."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def run(self, name: str, work: Callable[[], object]) -> None:
        """Do work: kernel by kernel the first time, as a captured graph from the second time on.

        Args:
            name: Tells the lane's works apart.
            work: Reads and writes only tensors that stay where they are, and reads no value of them on the host.

        Raises:
            CaptureFailed: The work cannot be captured; this process can no longer use the device.
        """
        # torch's deterministic algorithms sort all indices of a sum; the work of a stack repeats without them.
        with self.active(), order_of_sums("default"), product_precision(self._tf32):
            if (graph := self._graphs.get(name)) is not None:
                graph.replay()
            elif name in self._uncaptured or not self.captures:
                work()
            elif name not in self._tried:
                self._tried.add(name)
                self._try(name, work)
            else:
                self._graphs[name] = graph = self._capture(name, work)
                graph.replay()

    @property
    def captures(self) -> bool:
        """Whether work is captured at all."""
        return self._stream is not None

    def has_captured(self, name: str) -> bool:
        """Whether a work is replayed from now on."""
        return name in self._graphs

    def pace(self, most: int = IN_FLIGHT) -> None:
        """Wait until at most so many of the works before a call of this are left to do."""
        if self._stream is None:
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(self._stream)
        self._in_flight.append(event)
        while len(self._in_flight) > most:
            oldest = self._in_flight.popleft()
            if not oldest.query():  # type: ignore[no-untyped-call]
                oldest.synchronize()

    def wait(self) -> None:
        """Wait until all work is done."""
        if self._stream is not None:
            self._stream.synchronize()

    def to_host(self, values: torch.Tensor) -> torch.Tensor:
        """Start a copy to the host, where it is after `wait`."""
        if self._stream is None:
            return values.cpu().clone()
        with self.active():
            return torch.empty_like(values, device="cpu", pin_memory=True).copy_(values, non_blocking=True)

    def close(self) -> None:
        """Wait, and free the memory of the graphs."""
        self.wait()
        for graph in self._graphs.values():
            graph.reset()
        self._graphs.clear()

    def _try(self, name: str, work: Callable[[], object]) -> None:
        """Do the work once and find out whether it waits for the device, which a capture would not survive.

        Libraries initialize themselves here too, which cannot be captured either.
        """
        with _noticing_waits(beyond=len(traceback.extract_stack())) as places:
            work()
        if places:
            log.warning(
                "%s waits for the GPU, so its kernels are launched one by one, which is slower: %s", name, places[0]
            )
            self._uncaptured.add(name)

    def _capture(self, name: str, work: Callable[[], object]) -> Graph:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                work()
        except torch.OutOfMemoryError:
            raise  # the capture itself has ended well, otherwise another error would have replaced this one
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CaptureFailed(f"cannot capture the {name} of a stack as a CUDA graph: {reason}") from error
        return graph


def steps_of_replay(steps: int) -> int:
    """How many of `steps` equal steps one graph takes, at most `MAX_STEPS`, so that few or none are left over."""
    replays = math.ceil(steps / MAX_STEPS)
    return math.ceil(steps / replays)


@contextmanager
def _noticing_waits(beyond: int) -> Iterator[list[str]]:
    """Collect where the host waits for the device: the user's lines, or else what torch says.

    The work goes on, since it may have changed its tensors by then and could not be done again.

    Args:
        beyond: The frames of the call stack that belong to the caller.
    """
    places, show = list[str](), warnings.showwarning

    def notice(message: Warning | str, *more: Any, **named: Any) -> None:
        if _WAIT in str(message):
            places.append(_users_line(beyond) or str(message).splitlines()[0])
        else:
            show(message, *more, **named)

    with warnings.catch_warnings(action="ignore"):  # that this mode does not see every wait
        torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("always", f".*{_WAIT}")
            warnings.showwarning = notice
            yield places
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _users_line(beyond: int) -> str | None:
    """The innermost line of the call stack, beyond its first frames, that is the user's."""
    for frame in reversed(traceback.extract_stack()[beyond:]):
        if not any(Path(frame.filename).is_relative_to(folder) for folder in _NOT_THE_USERS):
            return f"{frame.filename}:{frame.lineno}: {frame.line}"
    return None
