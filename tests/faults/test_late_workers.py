"""Workers that are stopped for longer than their lease, and workers whose clocks are wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gates import wait_until
from scenario import FaultStudy, MakeStudy

# Python imports this file at its start, before any other code.
SITECUSTOMIZE = """
import datetime, os, time

shift_s, real_time = float(os.environ["CLOCK_SHIFT_S"]), time.time
time.time = lambda: real_time() + shift_s
time.time_ns = lambda: int(time.time() * 1e9)


class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return cls.now(datetime.UTC).replace(tzinfo=None)


datetime.datetime = Shifted
"""


def test_stopped_worker_comes_back_late(make_study: MakeStudy) -> None:
    """SIGSTOP for longer than the lease: another worker resumes the trial, and the late worker overwrites nothing."""
    study = make_study(3, ms=5, lease_s=60)
    study.plan()
    gate = study.close_gate(7, {"slot": 0})
    late = study.start_worker()
    assert gate.wait() == [late.pid]
    late.send_signal(signal.SIGSTOP)
    gate.open()
    study.expire_leases()
    study.repair()
    before = study.check_exactly_once()
    late.send_signal(signal.SIGCONT)
    assert study.join() == [0]
    assert "lost the lease of trial 0 of faulty; discarding its work" in study.log(late)
    assert study.check_exactly_once() == before
    assert [row.token for row in before] == [2, 1, 1]


def test_stopped_worker_finds_its_trial_leased_to_another(make_study: MakeStudy) -> None:
    """The late worker wakes up while another worker trains its trial, and discards its own work."""
    study = make_study(3, ms=5, lease_s=60)
    study.plan()
    [of_late, of_other] = [study.close_gate(7, {"slot": 0}), study.close_gate(13, {"slot": 0})]
    late = study.start_worker()
    assert of_late.wait() == [late.pid]
    late.send_signal(signal.SIGSTOP)
    of_late.open()
    study.expire_leases()
    other = study.start_worker()
    assert of_other.wait() == [other.pid]
    late.send_signal(signal.SIGCONT)
    discarded = "lost the lease of trial 0 of faulty; discarding its work"
    wait_until(lambda: discarded in study.log(late), "the late worker's next report")
    of_other.open()
    assert study.join() == [0, 0], study.logs()
    assert [row.token for row in study.check_exactly_once()] == [2, 1, 1]


def shifted(hours: float, folder: Path) -> dict[str, str]:
    """The environment of a worker whose clock is wrong by `hours`, in a distant time zone."""
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    zone = "Pacific/Kiritimati" if hours > 0 else "America/Los_Angeles"
    path = os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])
    return {"CLOCK_SHIFT_S": str(hours * 3600), "TZ": zone, "PGTZ": zone, "PYTHONPATH": path}


def check_clocks_do_not_matter(study: FaultStudy, ahead: dict[str, str], behind: dict[str, str]) -> None:
    study.plan()
    victim = study.start_worker_program(environment=ahead, new=True)
    wait_until(lambda: study.holders() == {victim.pid}, "its first claim")
    victim.kill()
    # Evaluations are further apart than a lease is long: only renewals keep the leases of live workers.
    started = time.monotonic()
    study.start_worker_program(environment=behind, new=True)
    study.start_worker_program(environment=ahead, new=True)
    assert study.join() == [-signal.SIGKILL, 0, 0], study.logs()
    assert time.monotonic() - started < 120, "the dead worker's lease was held for too long"
    rows = study.check_exactly_once()
    assert [row.token for row in rows] == [1, 1, 2], "the last cell of the grid is claimed first"
    now = time.time()
    for row in rows:
        assert now - 120 < row.started_at <= row.finished_at < now + 5


@pytest.mark.parametrize(
    ("first", "second"), [(1, -1), pytest.param(-1, 1, marks=pytest.mark.soak)], ids=["dead-ahead", "dead-behind"]
)
def test_wrong_clocks(make_study: MakeStudy, tmp_path: Path, first: float, second: float) -> None:
    study = make_study(3, ms=3000, lease_s=2, eval_interval=20)
    check_clocks_do_not_matter(study, shifted(first, tmp_path), shifted(second, tmp_path))


def test_the_shift_works(tmp_path: Path) -> None:
    """The workers of these tests really have another clock."""
    code = "import time, datetime; print(time.time(), datetime.datetime.now(datetime.UTC).timestamp())"
    environment = {**os.environ, **shifted(1, tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    for seconds in map(float, done.stdout.split()):
        assert abs(seconds - 3600 - time.time()) < 60
