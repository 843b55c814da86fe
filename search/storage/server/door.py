"""TLS in front of a PostgreSQL that was built without it and listens on a Unix socket alone.

PostgreSQL's protocol begins with a request for TLS, which is answered with one byte before the handshake. What follows
is passed on unchanged, so the password is proved to PostgreSQL itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from pathlib import Path

# The codes of requests that come in place of a protocol version.
_TLS_REQUEST, _GSSAPI_REQUEST = 80877103, 80877104
_HANDSHAKE_S = 15.0
_CHUNK = 65536


class Door:
    """Accepts TLS connections, and passes each on to the Unix socket.

    Args:
        listener: What clients connect to; see `listen`.
        server: PostgreSQL's socket.
    """

    def __init__(self, listener: socket.socket, server: Path) -> None:
        self._listener, self._socket = listener, server
        self._tls: ssl.SSLContext | None = None
        self._listening: asyncio.Server | None = None
        self._visits: set[asyncio.Task[None]] = set()
        self._left_at = time.monotonic()

    @property
    def used_at(self) -> float:
        """When a client was last connected, as `time.monotonic` counts."""
        return time.monotonic() if self._visits else self._left_at

    async def open(self) -> None:
        """Answer clients; none comes in before `admit`."""
        self._listening = await asyncio.start_server(self._visit, sock=self._listener)

    def admit(self, certificate: Path, key: Path) -> None:
        """Let clients in; before, they hear that the server is starting."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.load_cert_chain(certificate, key)
        self._tls = tls

    async def close(self) -> None:
        """Stop listening and end all connections."""
        if self._listening is not None:
            self._listening.close()
        for visit in self._visits:
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = asyncio.current_task()
        assert visit is not None
        self._visits.add(visit)
        try:
            # Clients break off, for example when they are killed.
            with contextlib.suppress(OSError, EOFError, TimeoutError, ssl.SSLError, asyncio.CancelledError):
                async with asyncio.timeout(_HANDSHAKE_S):
                    is_in = await self._greet(reader, writer)
                if is_in:
                    await self._pass_on(reader, writer)
        finally:
            writer.close()
            self._visits.discard(visit)
            self._left_at = time.monotonic()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Agree on TLS; whether that has worked."""
        while True:
            length, code = struct.unpack("!II", await reader.readexactly(8))
            if (length, code) == (8, _GSSAPI_REQUEST):
                writer.write(b"N")  # no; the client then asks for TLS
                continue
            if (length, code) != (8, _TLS_REQUEST):
                writer.write(_error("28000", "this server speaks TLS alone; use sslmode=verify-ca"))
            elif self._tls is None:
                writer.write(_error("57P03", "the database system is starting up"))
            else:
                writer.write(b"S")
                await writer.start_tls(self._tls)
                return True
            await writer.drain()
            return False

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_unix_connection(str(self._socket))
        except OSError:
            writer.write(_error("57P03", "the database system is starting up"))
            await writer.drain()
            return
        try:
            async with asyncio.TaskGroup() as both:
                ends = [both.create_task(_copy(reader, to_server)), both.create_task(_copy(from_server, writer))]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for end in ends:
                    end.cancel()
        finally:
            to_server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()


def listen() -> socket.socket:
    """A socket on a free port of all addresses of this host: of IPv4 and IPv6, or of IPv4 alone if it has no other."""
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # switched off
            return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
    return socket.create_server(("", 0), backlog=512)


def _error(state: str, message: str) -> bytes:
    """An error of PostgreSQL's protocol, which ends a connection."""
    fields = (("S", "FATAL"), ("V", "FATAL"), ("C", state), ("M", message))
    body = b"".join(f"{key}{value}\0".encode() for key, value in fields) + b"\0"
    return b"E" + struct.pack("!I", len(body) + 4) + body
