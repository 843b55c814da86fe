"""Which process runs the server of a folder: one at a time, on any host that sees the folder, also after crashes.

A claim is a file such as server-000007.json, which also tells clients the server's address. Its owner touches it every
two seconds. A process that finds a claim judges its owner: one of this machine by its id and the time of its start; one
of another machine by whether it touches the file while one watches, so that no clocks are compared. A dead owner's
claim is replaced by one with the next number, and creating that file is what only one process can do. An owner that
cannot touch its claim for a while ends its server before others may take its silence for its death.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from search.storage.errors import StorageError

_NAME = re.compile(r"server-(\d{6})\.json")
_STOP = "stop\n"
# The start of a folder's name for a server's socket. Not below TMPDIR: a socket's name has at most 107 characters.
SOCKETS = "/tmp/lm-search-"
PROC = Path("/proc")


@dataclass(frozen=True)
class Pace:
    """How often a claim is touched, and what silence means.

    Attributes:
        beat_s: Seconds between two touches.
        give_up_s: An owner that could not touch its claim for so long ends its server.
        silence_s: A claim of another machine that has not been touched for so long is dead.
    """

    beat_s: float = 2.0
    give_up_s: float = 20.0
    silence_s: float = 40.0


PACE = Pace()


@dataclass(frozen=True)
class Place:
    """Where a server is, or was.

    Attributes:
        host: The name of its host.
        address: An IP address of its host, for clients that cannot resolve the name.
        port: The port of its door.
        sockets: The folder of its Unix socket, for programs of its machine.
        machine: What `this_machine` returns there.
        pid, started: Its process, and when that started, in the machine's own unit.
    """

    host: str
    address: str
    port: int
    sockets: str
    machine: str
    pid: int
    started: str

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine, so that its process ids and sockets can be used."""
        return self.machine == this_machine()


class Runs(Exception):
    """The folder's server runs.

    Args:
        place: Where; None if that is not known yet.
    """

    def __init__(self, place: Place | None) -> None:
        super().__init__(place)
        self.place = place

    def __str__(self) -> str:
        if self.place is None:
            return "is being started by another process"
        return f"runs already on the host {self.place.host}, process {self.place.pid}"


class ClaimLost(StorageError):
    """The claim is gone, or another process has one."""


@dataclass(frozen=True)
class Claim:
    """The right to run a folder's server.

    Attributes:
        file: The claim's file.
    """

    file: Path

    def beat(self) -> bool:
        """Show that the owner is alive.

        Returns:
            Whether the owner was asked to stop.

        Raises:
            ClaimLost: See there.
            OSError: The folder cannot be reached.
        """
        try:
            os.utime(self.file)
            asked = self.file.read_text(encoding="utf-8", errors="replace").endswith(_STOP)
        except FileNotFoundError as error:
            raise ClaimLost(f"{self.file} is gone") from error
        if others := [name for name in _claims(self.file.parent) if name != self.file]:
            raise ClaimLost(f"another process has made {others[-1]}")
        return asked

    def release(self) -> None:
        """Give the claim up; the server has ended."""
        self.file.unlink(missing_ok=True)


def claim(folder: Path, place: Place, pace: Pace) -> Claim:
    """Become the process that runs the server of a folder.

    Raises:
        Runs: Another process does.
    """
    while True:
        found = _claims(folder)
        for file in found:
            if not is_dead(file, pace):
                raise Runs(read_place(file))
        last = int(found[-1].name[7:13]) if found else 0
        mine = folder / f"server-{last + 1:06d}.json"
        try:
            with mine.open("x", encoding="utf-8") as new:
                new.write(json.dumps(asdict(place)) + "\n")
        except FileExistsError:
            continue  # another process was faster
        if {*_claims(folder)} <= {*found, mine}:
            for file in found:
                _forget(file)
            return Claim(mine)
        # The list was old, as network file systems may answer; both withdraw, and one is faster the next time.
        mine.unlink(missing_ok=True)
        time.sleep(random.uniform(0.0, pace.beat_s))


def newest(folder: Path) -> Place | None:
    """Where the server of a folder was last said to be; None if it has been stopped, or says nothing yet."""
    found = _claims(folder)
    return read_place(found[-1]) if found else None


def running(folder: Path, pace: Pace) -> Path | None:
    """The claim of the running server; None if none runs."""
    return next((file for file in _claims(folder) if not is_dead(file, pace)), None)


def ask_to_stop(file: Path) -> None:
    """Ask the owner of a claim to stop its server; the file is gone when it has."""
    with file.open("a", encoding="utf-8") as claimed:
        claimed.write(_STOP)


def read_place(file: Path) -> Place | None:
    """What a claim says; None while it is being written, or when it is gone."""
    try:
        return Place(**json.loads(file.read_text(encoding="utf-8").partition("\n")[0]))
    except (OSError, ValueError, TypeError):
        return None


def is_dead(file: Path, pace: Pace) -> bool:
    """Whether the owner of a claim has ended; watches a claim of another machine until it moves or is silent."""
    place = read_place(file)
    if place is not None and place.is_here:
        return process_start(place.pid) != place.started
    first, deadline = _touched(file), time.monotonic() + pace.silence_s
    while time.monotonic() < deadline:
        if (now := _touched(file)) is None:
            return True
        if now != first:
            return False
        time.sleep(pace.beat_s / 4)
    return True


def this_machine() -> str:
    """What tells apart machines, their restarts, and containers whose process ids mean nothing to each other."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink(PROC / 'self/ns/pid')}"
    except OSError:  # macOS
        return os.uname().nodename


def process_start(pid: int) -> str | None:
    """When a process of this machine has started, as a text; None if it has ended."""
    if not (PROC / "self/stat").exists():  # macOS
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        return "?"
    try:
        # The name, in parentheses, can contain anything.
        fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _claims(folder: Path) -> list[Path]:
    """The files of all claims, the newest last."""
    try:
        return sorted(file for file in folder.iterdir() if _NAME.fullmatch(file.name))
    except FileNotFoundError:
        return []


def _forget(dead: Path) -> None:
    """Remove a dead owner's claim, and what the owner has left on this machine's disk."""
    place = read_place(dead)
    dead.unlink(missing_ok=True)
    # Only what a server makes: others may be able to write in the folder.
    if place is not None and place.is_here and re.fullmatch(rf"{SOCKETS}\w+", place.sockets):
        shutil.rmtree(place.sockets, ignore_errors=True)


def _touched(file: Path) -> int | None:
    """When a claim was last touched; None if it is gone."""
    try:
        # A network file system asks its server when a file is opened; it may answer `stat` from memory.
        with file.open("rb") as opened:
            return os.fstat(opened.fileno()).st_mtime_ns
    except OSError:
        return None
