"""What whole processes have taken: workers from their start to their end, and the processes of runs.

Each has a row of its own and writes it again and again, so a process that is killed loses little.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from search.storage.database import Database
from search.storage.dialects import upsert
from search.storage.schema import processes_table, stored_version, studies_table, uids_of

# The first version of the tables with processes.
_SINCE = 7
# What the process of a run has in place of a device.
NO_DEVICE = ""


@dataclass(frozen=True)
class ProcessCost:
    """What one process has taken so far.

    Attributes:
        identity: Its unique name, of no other process.
        owner: The name under which it claims trials: host, label and more, with slashes between them.
        device: As torch names it; `NO_DEVICE` for the process of a run.
        cpu_s: Seconds of CPUs, of the programs that its trials have run too.
        wall_s: Seconds since it was started.
        energy_j: What its device has taken meanwhile, in joules; None if that is not measured.
    """

    identity: str
    owner: str
    device: str
    cpu_s: float
    wall_s: float
    energy_j: float | None = None


@dataclass(frozen=True)
class RunCost:
    """What all processes of a study have taken.

    Attributes:
        workers: How many of them were workers.
        device_s: Seconds of devices. Workers that share a GPU count once; on a CPU each worker counts as a device.
        cpu_s: Seconds of CPUs, of the processes of runs too.
        energy_j: In joules; None if no device is measured.
        is_all_energy: Whether every device is measured.
    """

    workers: int
    device_s: float
    cpu_s: float
    energy_j: float | None
    is_all_energy: bool


@dataclass(frozen=True)
class _Interval:
    began: float
    ended: float
    energy_j: float | None


def store_process(database: Database, uid: str, cost: ProcessCost) -> None:
    """Store what a process has taken so far.

    Args:
        uid: The planning of the study that it works for.
        cost: Since its start, so that the same count twice does no harm.
    """

    def work(connection: Connection) -> None:
        if connection.execute(select(studies_table.c.uid).where(studies_table.c.uid == uid)).first() is None:
            return  # the study was deleted
        row = {
            **{"study_uid": uid, "process": cost.identity, "owner": cost.owner, "device": cost.device},
            **{"cpu_seconds": cost.cpu_s, "wall_seconds": cost.wall_s, "energy_joules": cost.energy_j},
            "counted_at": database.time(connection),
        }
        upsert(connection, processes_table, [row], ("study_uid", "process"))

    with suppress(IntegrityError):  # another program deletes the study at this moment
        database.write(work)


def process_records(connection: Connection, uid: str) -> list[dict[str, Any]]:
    """What the processes of a study have taken, as JSON-serializable records; for an archive."""
    query = select(processes_table).where(processes_table.c.study_uid == uid).order_by(processes_table.c.process)
    rows = connection.execute(query).mappings()
    return [{name: value for name, value in row.items() if name != "study_uid"} for row in rows]


def insert_processes(connection: Connection, uid: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Write `process_records` for another planning of the study."""
    if records:
        connection.execute(insert(processes_table), [{**each, "study_uid": uid} for each in records])


def run_cost(database: Database, studies: Sequence[str]) -> RunCost | None:
    """What the processes of studies have taken; None if none has said so, as those of earlier versions."""
    table = processes_table.c

    def work(connection: Connection) -> RunCost | None:
        if stored_version(connection) < _SINCE:
            return None
        query = select(processes_table).where(table.study_uid.in_(uids_of(connection, studies)))
        rows = connection.execute(query).all()
        if not rows:
            return None
        devices: dict[tuple[str, str], list[_Interval]] = {}
        for row in rows:
            if row.device != NO_DEVICE:
                host = row.owner.split("/")[0]
                found = _Interval(row.counted_at - row.wall_seconds, row.counted_at, row.energy_joules)
                devices.setdefault((host, row.device), []).append(found)
        energies = [_energy(each) for each in devices.values()]
        measured = [each for each in energies if each is not None]
        return RunCost(
            workers=sum(map(len, devices.values())),
            device_s=sum(_device_seconds(device, each) for (_, device), each in devices.items()),
            cpu_s=sum(row.cpu_seconds for row in rows),
            energy_j=sum(measured) if measured else None,
            is_all_energy=len(measured) == len(energies),
        )

    return database.read(work)


def _device_seconds(device: str, intervals: Sequence[_Interval]) -> float:
    if device == "cpu":
        return sum(each.ended - each.began for each in intervals)
    return _covered(intervals)


def _covered(intervals: Iterable[_Interval]) -> float:
    """Seconds that some interval covers."""
    total, until = 0.0, float("-inf")
    for each in sorted(intervals, key=lambda each: each.began):
        total += max(0.0, each.ended - max(each.began, until))
        until = max(until, each.ended)
    return total


def _energy(intervals: Sequence[_Interval]) -> float | None:
    """What a device has taken: its mean power while some worker measured it, as long as any had it."""
    measured = [each for each in intervals if each.energy_j is not None]
    seconds = sum(each.ended - each.began for each in measured)
    if not seconds:
        return None
    return sum(each.energy_j or 0.0 for each in measured) / seconds * _covered(intervals)
