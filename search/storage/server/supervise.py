"""Runs the server of a folder: claims it, starts PostgreSQL and its door, restarts what crashes, stops in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from search.storage.errors import StorageError
from search.storage.server.account import account_of
from search.storage.server.claims import PACE, Claim, ClaimLost, Pace, Place, claim, process_start, this_machine
from search.storage.server.door import Door, listen
from search.storage.server.folder import ServerFolder
from search.storage.server.postgres import SOCKET, Postgres

log = logging.getLogger("storage")

START_S = 120.0
STOP_S = 30.0
LOOK_S = 0.2
# Crashes of PostgreSQL in a row, each within a minute of its start, after which the server gives up.
MAX_CRASHES = 5
CRASH_S = 60.0
# What a crash has left may take a moment to end, and PostgreSQL does not start beside it.
PAUSE_S = 1.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Hours:
    """How long a server runs.

    Attributes:
        idle_s: It ends when no client has been connected for so long.
        pace: See there.
    """

    idle_s: float = math.inf
    pace: Pace = PACE


def run_server(folder: ServerFolder, hours: Hours, on_ready: Callable[[Place], None]) -> None:
    """Run the server of a folder until a stop signal, a request, or the end of its use.

    Args:
        on_ready: Called when clients can connect.

    Raises:
        Runs: It runs already.
        StorageError: It cannot run, in one line.
    """
    account = account_of(folder)
    folder.make()
    listener, postgres = listen(), Postgres(folder, account)
    try:
        place = _place(listener.getsockname()[1], str(postgres.sockets))
        held = claim(folder.path, place, hours.pace)
        try:
            door = Door(listener, postgres.sockets / SOCKET)
            asyncio.run(_Server(folder, postgres, door, held, hours).run(lambda: on_ready(place)))
        finally:
            with contextlib.suppress(OSError):
                held.release()
    finally:
        listener.close()
        postgres.clean_up()


class _Server:
    def __init__(self, folder: ServerFolder, postgres: Postgres, door: Door, held: Claim, hours: Hours) -> None:
        self._folder, self._postgres, self._door, self._held, self._hours = folder, postgres, door, held, hours
        self._stop = asyncio.Event()
        self._lost: StorageError | None = None
        self._log = f"log: {folder.log}"

    async def run(self, on_ready: Callable[[], None]) -> None:
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN or number != signal.SIGHUP:  # of nohup
                asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        beats = asyncio.create_task(self._beat())
        try:
            await self._door.open()
            await asyncio.to_thread(self._prepare)
            self._door.admit(self._folder.certificate, self._folder.key)
            await self._serve(on_ready)
        finally:
            await self._door.close()
            await asyncio.to_thread(self._postgres.stop, STOP_S)
            beats.cancel()
        if self._lost is not None:
            raise self._lost

    def _prepare(self) -> None:
        self._folder.make_secrets()
        self._postgres.prepare()

    async def _serve(self, on_ready: Callable[[], None]) -> None:
        """Keep PostgreSQL running until the server is to stop."""
        crashes, is_new = 0, True
        while not self._stop.is_set() and crashes < MAX_CRASHES:
            started = time.monotonic()
            self._postgres.start()
            if await self._until(lambda: self._postgres.is_ready, START_S):
                if is_new:
                    on_ready()
                is_new = False
                await self._until(lambda: time.monotonic() - self._door.used_at >= self._hours.idle_s, math.inf)
            elif self._postgres.is_running and not self._stop.is_set():
                raise StorageError(f"PostgreSQL of {self._folder} is not ready after {START_S:.0f} s; {self._log}")
            if self._stop.is_set() or self._postgres.is_running:
                return
            crashes = crashes + 1 if time.monotonic() - started < CRASH_S else 1
            log.warning("PostgreSQL of %s has ended; starting it again", self._folder)
            await self._wait(PAUSE_S)
        if crashes >= MAX_CRASHES:
            raise StorageError(f"PostgreSQL of {self._folder} ends again and again; {self._log}")

    async def _until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Wait for a condition; False if PostgreSQL ends, the server is to stop, or the time is over before."""
        deadline = time.monotonic() + limit_s
        while not condition():
            if self._stop.is_set() or not self._postgres.is_running or time.monotonic() > deadline:
                return False
            await self._wait(LOOK_S)
        return True

    async def _wait(self, seconds: float) -> None:
        """Wait, but not once the server is to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _beat(self) -> None:
        """Keep the claim; end PostgreSQL before another process may take the claim's silence for its owner's death."""
        pace, kept_at = self._hours.pace, time.monotonic()
        lost = ClaimLost(f"{self._folder} could not be reached for {pace.give_up_s:g} s")
        while (left_s := pace.give_up_s - (time.monotonic() - kept_at)) > 0:
            try:
                if await asyncio.wait_for(asyncio.to_thread(self._held.beat), left_s):
                    self._stop.set()
                kept_at = time.monotonic()
            except ClaimLost as error:
                lost = error
                break
            except Exception as error:  # mostly of the file system, or the end of the time; what counts is the silence
                log.warning("%s cannot be reached: %s", self._folder, error)
            await asyncio.sleep(pace.beat_s)
        self._lost = lost
        self._postgres.kill()
        self._stop.set()


def _place(port: int, sockets: str) -> Place:
    started = process_start(os.getpid())
    return Place(os.uname().nodename, _address(), port, sockets, this_machine(), os.getpid(), started or "?")


def _address() -> str:
    """This host's address on its network; that of the host itself if there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; the address is reserved for documentation
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
