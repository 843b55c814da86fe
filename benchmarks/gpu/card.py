"""What a GPU can do at most: its cost of a kernel in a graph, its memory's speed, and its products."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch

NODES = 200  # of a graph of kernels that each need the one before
STREAMS = (1, 2, 4, 8, 16)
REPEATS = 20
COPIED = 1 << 30  # numbers of 4 bytes
SIDE = 8192  # of the matrices


@dataclass(frozen=True)
class Card:
    """A GPU's name and what was measured on it.

    Attributes:
        node_us: Microseconds a kernel, by the number of graphs side by side: all time by all kernels.
        copy_bytes_s: Bytes read and written a second by a large copy.
        float32_s: Floating-point operations a second of a large product in float32.
        tf32_s: The same with TF32.
    """

    name: str
    node_us: dict[int, float]
    copy_bytes_s: float
    float32_s: float
    tf32_s: float


def card() -> dict[str, object]:
    """Measure the first GPU; the fields of `Card`."""
    a, b = (torch.randn(SIDE, SIDE, device="cuda") for _ in range(2))
    source = torch.empty(COPIED, device="cuda").normal_()
    target = torch.empty_like(source)
    products = []
    for precision in ("ieee", "tf32"):
        torch.backends.cuda.matmul.fp32_precision = precision
        products.append(2 * SIDE**3 / seconds(lambda: torch.mm(a, b)))
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    found = Card(
        torch.cuda.get_device_name(),
        {streams: node_us(streams) for streams in STREAMS},
        8 * COPIED / seconds(lambda: target.copy_(source)),
        *products,
    )
    return asdict(found)


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """The median time on the GPU of some work on the current stream, after two calls to warm up."""
    taken = []
    for repeat in range(repeats + 2):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        if repeat >= 2:
            taken.append(float(begin.elapsed_time(end)) / 1000)
    median_s: float = statistics.median(taken)
    return median_s


def node_us(streams: int) -> float:
    """Microseconds a kernel of one addition, with as many graphs of `NODES` dependent kernels side by side."""
    graphs = [_chain() for _ in range(streams)]
    times = []
    for _ in range(REPEATS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        _replay(graphs)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    took_s: float = statistics.median(times)
    return 1e6 * took_s / (streams * NODES * REPEATS)


def _chain() -> tuple[torch.cuda.CUDAGraph, torch.cuda.Stream, torch.Tensor]:
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    value = torch.zeros(1, device="cuda")
    stream.wait_stream(torch.cuda.current_stream())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(NODES):
            value += 1
    return graph, stream, value


def _replay(graphs: Sequence[tuple[torch.cuda.CUDAGraph, torch.cuda.Stream, torch.Tensor]]) -> None:
    for _ in range(REPEATS):
        for graph, stream, _ in graphs:
            with torch.cuda.stream(stream):
                graph.replay()
