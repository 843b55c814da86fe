"""When work is captured, replayed or launched kernel by kernel; CUDA itself is pretended here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from search.objectives.errors import CaptureFailed
from search.objectives.language_model.cuda_graphs import IN_FLIGHT, Lane


class FakeCuda:
    """Records what is asked of torch.cuda; a graph records work without doing it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.mode = "default"
        self.is_capturing = False
        self.done = 0  # how many recorded events have happened
        self.recorded = 0
        self._work: Callable[[], None] | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = self

        class Stream:
            def __init__(self, device: object = None) -> None: ...

            def wait_stream(self, stream: object) -> None:
                fake.asked.append("wait for what was made")

            def synchronize(self) -> None:
                fake.asked.append("wait")

        class Event:
            def follow(self, stream: object) -> None:
                fake.recorded += 1
                self.number = fake.recorded

            locals()["record"] = follow

            def query(self) -> bool:
                return self.number <= fake.done

            def synchronize(self) -> None:
                fake.asked.append(f"wait for {self.number}")

        class Graph:
            def replay(self) -> None:
                fake.asked.append("replay")

            def reset(self) -> None:
                fake.asked.append("reset")

        @contextmanager
        def graph(captured: object, **options: Any) -> Iterator[None]:
            fake.asked.append("capture")
            fake.is_capturing = True
            try:
                yield
            finally:
                fake.is_capturing = False

        @contextmanager
        def stream(given: object) -> Iterator[None]:
            yield

        replaced = {"Stream": Stream, "Event": Event, "CUDAGraph": Graph, "graph": graph, "stream": stream}
        replaced |= {"graph_pool_handle": object, "current_stream": lambda device: object()}
        replaced |= {"set_sync_debug_mode": lambda mode: setattr(fake, "mode", mode)}
        for name, value in replaced.items():
            monkeypatch.setattr(torch.cuda, name, value)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    fake.install(monkeypatch)
    return fake


def test_work_is_tried_then_captured_then_replayed(cuda: FakeCuda) -> None:
    lane = Lane(torch.device("cuda"))
    modes: list[str] = []
    for _ in range(4):
        lane.run("steps", lambda: modes.append("captured" if cuda.is_capturing else cuda.mode))
        lane.run("evaluation", lambda: None)
    assert modes == ["warn", "captured"]
    assert cuda.asked == ["wait for what was made", *2 * ["capture", "replay"], *4 * ["replay"]]
    assert cuda.mode == "default"
    lane.close()
    assert cuda.asked[-3:] == ["wait", "reset", "reset"]


def test_work_of_a_stack_needs_no_deterministic_algorithms(cuda: FakeCuda) -> None:
    lane = Lane(torch.device("cuda"))
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("warn")
    try:
        lane.run("steps", lambda: cuda.asked.append(f"mode {torch.get_deterministic_debug_mode()}"))
        assert cuda.asked[-1] == "mode 0"
        assert torch.get_deterministic_debug_mode() == 1
    finally:
        torch.set_deterministic_debug_mode(before)


@pytest.mark.parametrize("tf32", [False, True])
def test_products_of_a_lane_are_as_precise_as_it_says(cuda: FakeCuda, tf32: bool) -> None:
    lane, seen = Lane(torch.device("cuda"), tf32), list[str]()
    for _ in range(3):
        lane.run("steps", lambda: seen.append(torch.get_float32_matmul_precision()))
    assert seen == ["high" if tf32 else "highest"] * 2
    assert torch.get_float32_matmul_precision() == "highest"


def test_work_that_waits_for_the_device_is_never_captured(cuda: FakeCuda, caplog: pytest.LogCaptureFixture) -> None:
    def waits() -> None:
        taken.append(cuda.mode)
        if cuda.mode == "warn":
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)  # a line of the user's

    taken: list[str] = []
    lane = Lane(torch.device("cuda"))
    for _ in range(3):
        lane.run("steps", waits)
    assert taken == ["warn", "default", "default"]  # never twice: it may have changed its tensors
    assert "capture" not in cuda.asked
    (message,) = caplog.messages
    assert message.startswith(
        f"steps waits for the GPU, so its kernels are launched one by one, which is slower: {__file__}:"
    )
    assert message.endswith("stacklevel=1)  # a line of the user's")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing", 900), CaptureFailed),
        (RuntimeError("Cannot copy between CPU and CUDA tensors during CUDA graph capture"), CaptureFailed),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
    ],
    ids=["cuda", "torch", "memory"],
)
def test_a_failed_capture_ends_the_process_unless_memory_was_lacking(
    cuda: FakeCuda, raised: Exception, expected: type[Exception]
) -> None:
    def work() -> None:
        if cuda.is_capturing:
            raise raised

    lane = Lane(torch.device("cuda"))
    lane.run("steps", work)
    with pytest.raises(expected, match=f"{'steps of a stack.*' if expected is CaptureFailed else ''}{raised}"):
        lane.run("steps", work)


def test_an_error_of_the_work_is_not_taken_for_a_wait(cuda: FakeCuda) -> None:
    lane = Lane(torch.device("cuda"))
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2 shapes"):
        lane.run("steps", lambda: torch.ones(2, 3).matmul(torch.ones(2, 3)).clear())  # type: ignore[attr-defined]
    assert cuda.mode == "default"


def test_the_host_is_at_most_a_few_replays_ahead(cuda: FakeCuda) -> None:
    lane = Lane(torch.device("cuda"))
    cuda.asked.clear()
    for _ in range(IN_FLIGHT + 2):
        lane.pace()
    assert cuda.asked == ["wait for 1", "wait for 2"]
    cuda.done = 100
    lane.pace()
    assert cuda.asked == ["wait for 1", "wait for 2"]


def test_on_other_devices_every_call_does_the_work() -> None:
    lane, calls = Lane(torch.device("cpu")), []
    for _ in range(3):
        lane.run("steps", lambda: calls.append(1))
        lane.pace()
    lane.close()
    assert len(calls) == 3
