"""What a process takes is measured from its start, and stored while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from finished_studies import ended_study, nothing
from gates import wait_until

from search.storage.process_costs import NO_DEVICE, run_cost
from search.storage.queries import study_uids
from search.workers import energy, process_meter
from search.workers.energy import EnergyMeter
from search.workers.process_meter import ProcessMeter, metered, process_age_s


def busy(seconds: float) -> None:
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass


def test_a_process_is_measured_from_its_start_or_from_now() -> None:
    whole, part = ProcessMeter("me", "cpu"), ProcessMeter("me", "cpu", from_start=False)
    own = ProcessMeter("me", NO_DEVICE, with_children=False)
    assert 0 < process_age_s() < time.time() - 1.7e9
    busy(0.05)
    subprocess.run([sys.executable, "-c", "sum(i * i for i in range(2_000_000))"], check=True)
    costs = whole.cost(), part.cost(), own.cost()
    times = os.times()
    assert costs[0].cpu_s == pytest.approx(sum(times[:4]), abs=0.1)
    assert costs[0].wall_s >= process_age_s() - 1
    assert 0.05 <= costs[1].cpu_s < costs[0].cpu_s
    assert costs[1].wall_s < costs[0].wall_s
    assert costs[2].cpu_s <= costs[0].cpu_s - times.children_user + 0.1


def test_costs_are_stored_while_a_process_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_meter, "STORE_S", 0.01)
    with ended_study(tmp_path, nothing) as database:
        uid = study_uids(database, ["small"])["small"]
        meter = ProcessMeter("me", "cpu")
        with metered(database, uid, meter):
            wait_until(lambda: run_cost(database, ["small"]) is not None, "a first count")
            monkeypatch.setattr(process_meter, "STORE_S", 1000.0)
            busy(0.05)
        found = run_cost(database, ["small"])
        assert found is not None
        assert found.cpu_s == pytest.approx(meter.cost().cpu_s, abs=0.2)


def test_a_process_does_not_fail_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("permission denied for table search_processes")

    monkeypatch.setattr(process_meter, "store_process", refuse)
    with ended_study(tmp_path, nothing) as database, metered(database, "", ProcessMeter("me", "cpu")):
        pass
    assert caplog.messages == [
        "cannot store what this process takes: PermissionError: permission denied for table search_processes"
    ]


def package(folder: Path, name: str, joules: float, turns_at: float = 1000.0) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
    (folder / name / "max_energy_range_uj").write_text(f"{int(turns_at * 1e6)}\n")


def test_energy_of_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    assert EnergyMeter("cpu").joules() is None
    package(tmp_path, "intel-rapl:0", 900.0)
    package(tmp_path, "intel-rapl:1", 10.0)
    package(tmp_path, "intel-rapl:0:0", 5.0)  # the cores of the first one
    meter = EnergyMeter("cpu")
    package(tmp_path, "intel-rapl:0", 100.0)  # the counter has begun again
    package(tmp_path, "intel-rapl:1", 15.0)
    package(tmp_path, "intel-rapl:0:0", 50.0)
    assert meter.joules() == pytest.approx(205.0)
    package(tmp_path, "intel-rapl:1", 16.0)
    assert meter.joules() == pytest.approx(206.0)
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    assert meter.joules() is None


def test_energy_of_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([5_000, 5_000, 65_000])
    nvml: Any = ModuleType("pynvml")
    nvml.nvmlInit = lambda: None
    nvml.nvmlDeviceGetHandleByUUID = lambda uuid: {"GPU-1234": "the card"}[uuid]
    nvml.nvmlDeviceGetTotalEnergyConsumption = lambda card: next(taken)
    cuda = SimpleNamespace(get_device_properties=lambda device: SimpleNamespace(uuid="1234"))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    meter = EnergyMeter("cuda:0")
    assert meter.joules() == pytest.approx(60.0)
    assert meter.joules() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert EnergyMeter("cuda:0").joules() is None
