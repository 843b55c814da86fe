"""Which worker gets which device."""

from __future__ import annotations

import re

import pytest

from search.errors import UsageError
from search.workers import devices
from search.workers.cpu_quota import cpu_count
from search.workers.devices import check_device, worker_slots


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """A machine with so many GPUs."""
    count: int = request.param
    monkeypatch.setattr(devices, "_gpu_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return count


def test_one_worker_a_core() -> None:
    slots = worker_slots("cpu", "auto")
    assert [slot.label for slot in slots] == [f"cpu-{i}" for i in range(cpu_count())]
    for slot in slots:
        assert slot.device == "cpu"
        # A worker that sees a GPU would pay for a context on it, and one with many threads slows the others down.
        assert slot.environment == {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize("gpus", [0], indirect=True)
@pytest.mark.parametrize("named", ["cpu", "auto"])
def test_number_of_cpu_workers(gpus: int, named: str) -> None:
    assert [slot.label for slot in worker_slots(named, "3")] == ["cpu-0", "cpu-1", "cpu-2"]


@pytest.mark.parametrize("gpus", [2], indirect=True)
@pytest.mark.parametrize("named", ["auto", "cuda", "cuda:0,1", "cuda:0, 1", "cuda:0,1,0"])
def test_one_worker_a_gpu(gpus: int, named: str) -> None:
    found = [
        (slot.label, slot.device, slot.environment["CUDA_VISIBLE_DEVICES"]) for slot in worker_slots(named, "auto")
    ]
    assert found == [("cuda-0", "cuda:0", "0"), ("cuda-1", "cuda:0", "1")]


@pytest.mark.parametrize("gpus", [2], indirect=True)
def test_more_workers_than_gpus_share_them(gpus: int) -> None:
    slots = worker_slots("cuda", "5")
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0", "1", "0", "1", "0"]
    assert [slot.label for slot in slots] == ["cuda-0", "cuda-1", "cuda-0.1", "cuda-1.1", "cuda-0.2"]


@pytest.mark.parametrize("gpus", [4], indirect=True)
def test_chosen_gpus(gpus: int) -> None:
    slots = worker_slots("cuda:3,1", "auto")
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["3", "1"]


@pytest.mark.parametrize("gpus", [2], indirect=True)
@pytest.mark.parametrize("visible", ["5,7", "GPU-5ab1, GPU-77fe"])
def test_visible_gpus_are_counted_as_torch_does(gpus: int, visible: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    first, second = (name.strip() for name in visible.split(","))
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in worker_slots("auto", "auto")] == [first, second]
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in worker_slots("cuda:1", "auto")] == [second]


@pytest.mark.parametrize("gpus", [2], indirect=True)
def test_a_worker_on_the_cpu_beside_gpus(gpus: int) -> None:
    assert [slot.device for slot in worker_slots("cpu", "1")] == ["cpu"]


@pytest.mark.parametrize(
    ("gpus", "named", "said"),
    [
        (0, "cuda", r"--devices cuda: this machine has no CUDA GPU that torch can use; use --devices cpu, or auto"),
        (0, "cuda:0", r"--devices cuda:0: this machine has no CUDA GPU that torch can use"),
        (2, "cuda:2", r"--devices cuda:2: this machine has 2 CUDA GPU\(s\); use --devices cpu, or auto"),
        (2, "cuda:", r"--devices cuda:: write the GPUs as numbers, such as cuda:0,1"),
        (2, "cuda:-1", r"--devices cuda:-1: write the GPUs as numbers"),
        (2, "cuda:²", r"--devices cuda:²: write the GPUs as numbers"),
        (2, "cuda:0,", r"--devices cuda:0,: write the GPUs as numbers"),
        (2, "mps", r"--devices mps: choices are auto, cpu, cuda, cuda:0,1,…; this machine has 2 CUDA GPU\(s\)"),
    ],
    indirect=["gpus"],
)
def test_wrong_devices(gpus: int, named: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"^{said}"):
        worker_slots(named, "auto")


@pytest.mark.parametrize("workers", ["0", "-1", "two", "1.5", ""])
def test_wrong_number_of_workers(workers: str) -> None:
    with pytest.raises(
        UsageError, match=rf"^--workers {workers}: give a number from 1 up, or auto \(here {cpu_count()}\)"
    ):
        worker_slots("cpu", workers)


def test_a_worker_has_one_device_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.workers.devices._gpu_count", lambda: 2)
    for device in ("cpu", "cuda", "cuda:0", "cuda:1"):
        check_device(device)
    for device in ("cuda:2", "cuda:0,1", "auto", "gpu", ""):
        with pytest.raises(
            UsageError, match=re.escape(f"--device {device}: this machine has cpu, cuda, cuda:0, cuda:1")
        ):
            check_device(device)
    monkeypatch.setattr("search.workers.devices._gpu_count", lambda: 0)
    with pytest.raises(UsageError, match=r"^--device cuda: this machine has cpu$"):
        check_device("cuda")
