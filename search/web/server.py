"""The dashboard's HTTP server: waitress, with limits that a stranger cannot exceed.

waitress reads the whole body of a request before it calls the application, keeps a connection for two minutes, and
stops accepting when there are 100. Here the rules of `Access` decide when the head of a request has arrived. The loop
that accepts connections answers what the dashboard does not get, so neither slow clients nor busy threads delay
`/healthz`.
"""

from __future__ import annotations

import contextlib
import math
import resource
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from wsgiref.types import WSGIApplication

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer

from search.web.access import Access, Request
from search.web.answers import Answer
from search.web.response_policy import COMMON_HEADERS

THREADS = 8
ACCEPTED_AT_ONCE = 64
BUSY = Answer("503 Service Unavailable", "Too many requests are waiting: try again in a minute.")
Decide = Callable[[Request], Answer | None]


@dataclass(frozen=True)
class Limits:
    """What a client may use.

    Attributes:
        head_bytes: Size of a request's first line and headers; a download of chosen trials names all of them.
        body_bytes: Size of a request's body.
        connections: Open connections; a new one replaces the one that has waited longest. Requests that wait for a
            thread take at most half of them.
        head_s: Seconds for a request to arrive; a second more for every `bytes_per_s` that have arrived.
        idle_s: Seconds without a request.
        send_s: Seconds for a response to be taken; a second more for every `bytes_per_s` that have been taken.
        linger_s: Seconds in which the client of a refused request may read the answer.
        linger_bytes: What such a client may go on sending; it is dropped.
        bytes_per_s: The slowest connection that is served.
    """

    head_bytes: int = 64 * 1024
    body_bytes: int = 16 * 1024
    connections: int = 500
    head_s: float = 5.0
    idle_s: float = 30.0
    send_s: float = 20.0
    linger_s: float = 2.0
    linger_bytes: int = 2**20
    bytes_per_s: float = 10_000.0


READ_ONLY = Limits()
# A visitor who may write uploads files, which optuna-dashboard reads into memory several times over.
WRITABLE = Limits(body_bytes=32 * 1024 * 1024)


class _Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """A request that is complete as soon as its head shows that the dashboard does not get it."""

    answer: Answer | None = None
    empty: bool

    def __init__(self, adj: Any, decide: Decide) -> None:
        super().__init__(adj)
        self._decide, self._is_decided = decide, False

    def received(self, data: bytes) -> int:
        """As `HTTPRequestParser`; what follows the head of a refused request is dropped."""
        consumed: int = super().received(data)
        if self.empty:
            # waitress waits for another request: a client could stay for ever.
            self.empty, self.answer = False, Answer("400 Bad Request", "The request is empty.")
        elif self.error is not None:
            self.answer = Answer(f"{self.error.code} {self.error.reason}", str(self.error.body))
        elif self.headers_finished and not self._is_decided:
            self._is_decided = True
            self.answer = self._decide(self._request())
        if self.answer is None:
            return consumed
        self.completed, self.expect_continue = True, False
        self.close()
        return len(data)

    def _request(self) -> Request:
        headers = (self.headers.get(name, "") for name in ("HOST", "ORIGIN", "COOKIE", "AUTHORIZATION"))
        return Request(self.command, self.path, self.query, *headers)


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """One connection, with a deadline for what it is doing."""

    requests: list[_Parser]

    def __init__(self, server: Server, *arguments: Any, **keywords: Any) -> None:
        self._limits, self._is_answered, self._is_shut = server.limits, False, False
        self._seen: object = None
        self._number, self._moved, self._dropped, self.since = 0, 0, 0, time.monotonic()
        self._decide = server.access.answer
        super().__init__(server, *arguments, **keywords)

    def parser_class(self, adj: Any) -> _Parser:
        """Make the parser of the next request."""
        self._number += 1
        return _Parser(adj, self._decide)

    def answer(self, answer: Answer, *, with_body: bool) -> None:
        """Send an answer from the accepting loop, then close."""
        content = answer.to_bytes(COMMON_HEADERS, with_body=with_body)
        with self.outbuf_lock:
            self.outbufs[-1].append(content)
            self.current_outbuf_count += len(content)
            self.total_outbufs_len += len(content)
        self._is_answered, self.requests = True, []

    def readable(self) -> bool:
        """As `HTTPChannel`; the body of a refused request is read and dropped, else its client would see no answer."""
        return self._is_answered or bool(super().readable())

    def received(self, data: bytes) -> bool:
        """As `HTTPChannel`."""
        if not self._is_answered:
            return bool(super().received(data))
        self._dropped += len(data)
        if self._dropped > self._limits.linger_bytes:
            self.handle_close()
        return False

    def handle_write(self) -> None:
        """As `HTTPChannel`; an answered connection is closed when the client has read the answer."""
        super().handle_write()
        if self._is_answered and not self._is_shut and not self.total_outbufs_len and self.connected:
            self._is_shut = True
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)

    def recv(self, size: int) -> bytes:
        """As `HTTPChannel`, and count."""
        data: bytes = super().recv(size)
        self._moved += len(data)
        return data

    def send(self, data: bytes, do_close: bool = True) -> int:
        """As `HTTPChannel`, and count."""
        sent: int = super().send(data, do_close)
        self._moved += sent
        return sent

    def is_late(self, now: float) -> bool:
        """Whether the client is too slow; called about once a second."""
        phase, allowed_s = self._phase()
        if (phase, self._number) != self._seen:
            self._seen, self._moved, self.since = (phase, self._number), 0, now
        bonus_s = 0.0 if self._is_answered else self._moved / self._limits.bytes_per_s
        return now > self.since + allowed_s + bonus_s

    def _phase(self) -> tuple[str, float]:
        """What happens on this connection, and how long it may take."""
        limits = self._limits
        if self._is_answered:
            return "answered", limits.linger_s
        if self.total_outbufs_len:
            return "sending", limits.send_s
        if self.requests:
            return "computing", math.inf
        is_idle = self.request is None and self._number > 0
        return ("idle", limits.idle_s) if is_idle else ("reading", limits.head_s)


class Server(TcpWSGIServer):  # type: ignore[misc]  # waitress has no types
    """Serves a WSGI application; `run` returns after Ctrl-C.

    Args:
        app: The application; it must check access itself too.
        access: The rules.
        limits: What a client may use.
        host, port: The address to listen on; port 0 takes a free one.

    Raises:
        OSError: The address cannot be used.
    """

    channel_class = _Channel

    def __init__(self, app: WSGIApplication, access: Access, limits: Limits, host: str, port: int) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.access, self.limits = access, replace(limits, connections=min(limits.connections, files // 2))
        settings = {
            **{"host": host, "port": port, "threads": THREADS, "ident": None, "log_socket_errors": False},
            **{"max_request_header_size": limits.head_bytes, "max_request_body_size": limits.body_bytes},
            # `handle_accept` limits connections: waitress would stop accepting.
            **{"connection_limit": 2**31, "cleanup_interval": 1, "asyncore_use_poll": True},
            # A response waits on disk or in memory until its client takes it.
            "outbuf_high_watermark": 2**20,
        }
        super().__init__(app, **settings)

    def add_task(self, channel: _Channel) -> None:
        """Give a complete request to a thread, or answer it at once."""
        request: _Parser = channel.requests[0]
        answer = request.answer
        # The other half of the connections is for the answers that need no thread.
        if answer is None and sum(bool(each.requests) for each in self._channels()) > self.limits.connections // 2:
            answer = BUSY
        if answer is None:
            super().add_task(channel)
        else:
            channel.answer(answer, with_body=getattr(request, "command", "GET") != "HEAD")
            self.pull_trigger()

    def handle_accept(self) -> None:
        """As `TcpWSGIServer`; with too many connections, the one that has waited longest for its client is closed."""
        # Several at once: waitress would accept one, then look at all connections again, while others queue.
        for _ in range(ACCEPTED_AT_ONCE):
            before = len(self.active_channels)
            super().handle_accept()
            if len(self.active_channels) == before:
                return
            if before >= self.limits.connections:
                # A client whose request is being computed has done its part, and the newest has had no time yet.
                *others, _ = self._channels()
                min(others, key=lambda channel: (bool(channel.requests), channel.since)).handle_close()

    def maintenance(self, now: float) -> None:
        """As `TcpWSGIServer`: close the connections of slow clients."""
        for channel in self._channels():
            if channel.is_late(time.monotonic()):
                channel.handle_close()

    def _channels(self) -> list[_Channel]:
        """Every open connection, in the order in which they were opened."""
        return list(self.active_channels.values())
