"""Which worker gets which device."""

from __future__ import annotations

import re

import pytest
import torch

from search.errors import UsageError
from search.workers import devices
from search.workers.cpu_quota import cpu_count
from search.workers.devices import Accelerators, check_device, worker_slots


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """A machine with so many GPUs."""
    count: int = request.param
    monkeypatch.setattr(devices, "accelerators", lambda: Accelerators(count=count))
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"):
        monkeypatch.delenv(name, raising=False)
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
    monkeypatch.setattr(devices, "accelerators", lambda: Accelerators(count=2))
    for device in ("cpu", "cuda", "cuda:0", "cuda:1"):
        check_device(device)
    for device in ("cuda:2", "cuda:0,1", "auto", "gpu", ""):
        with pytest.raises(
            UsageError, match=re.escape(f"--device {device}: this machine has cpu, cuda, cuda:0, cuda:1")
        ):
            check_device(device)
    monkeypatch.setattr(devices, "accelerators", Accelerators)
    with pytest.raises(UsageError, match=r"^--device cuda: this machine has cpu$"):
        check_device("cuda")


@pytest.mark.parametrize(
    ("found", "variables", "bound"),
    [
        (Accelerators("cuda", 2, "HIP_VISIBLE_DEVICES"), {}, [("cuda:0", "0"), ("cuda:0", "1")]),
        (
            Accelerators("cuda", 2, "HIP_VISIBLE_DEVICES"),
            {"HIP_VISIBLE_DEVICES": "2,5"},
            [("cuda:0", "2"), ("cuda:0", "5")],
        ),
        (
            Accelerators("cuda", 2, "HIP_VISIBLE_DEVICES"),
            {"CUDA_VISIBLE_DEVICES": "4,6"},
            [("cuda:0", "4"), ("cuda:0", "6")],
        ),
        (Accelerators("xpu", 2, "ZE_AFFINITY_MASK"), {"ZE_AFFINITY_MASK": "1,3"}, [("xpu:0", "1"), ("xpu:0", "3")]),
        (Accelerators("mps", 1, ""), {}, [("mps:0", None)]),
    ],
    ids=["rocm", "rocm-hip", "rocm-cuda", "xpu", "mps"],
)
def test_gpus_of_other_makers(
    found: Accelerators, variables: dict[str, str], bound: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(devices, "accelerators", lambda: found)
    for named in ("auto", found.kind):
        slots = worker_slots(named, "auto")
        assert [(slot.device, slot.environment.get(found.visible)) for slot in slots] == bound
    check_device(f"{found.kind}:0")
    with pytest.raises(
        UsageError, match=rf"^--device {found.kind}:7: this machine has cpu, {found.kind}, {found.kind}:0"
    ):
        check_device(f"{found.kind}:7")


def test_torch_says_which_accelerator_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which devices there are is torch's to know; without a sign of one it is not even imported."""
    monkeypatch.setattr(devices, "may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 3)
    cuda, rocm = ("cuda", None, "CUDA_VISIBLE_DEVICES"), ("cuda", "6.4", "HIP_VISIBLE_DEVICES")
    for kind, hip, variable in (cuda, rocm, ("xpu", None, "ZE_AFFINITY_MASK"), ("mps", None, "")):
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda kind=kind: torch.device(kind))
        monkeypatch.setattr(torch.version, "hip", hip)
        assert devices.accelerators() == Accelerators(kind, 3, variable)
    monkeypatch.setattr(devices, "may_have_gpu", lambda: False)
    assert devices.accelerators() == Accelerators()
