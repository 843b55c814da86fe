"""The dashboard's server under small limits: what it accepts from strangers, and whom it still answers meanwhile."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from gates import wait_until

from search.web.access import Access
from search.web.server import Limits, Server

TOKEN = "0123456789abcdef0123"
HEAD = "Host: localhost\r\n"
BEARER = f"{HEAD}Authorization: Bearer {TOKEN}\r\n"
SMALL = Limits(
    head_bytes=4096, body_bytes=1000, connections=10, head_s=0.5, idle_s=0.5, send_s=0.5, linger_s=0.5, bytes_per_s=1e5
)
BIG = b"x" * 20_000_000


class App:
    """Answers with what it was sent; /wait holds its thread, /big is longer than any socket's buffer."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.may_go = threading.Event()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.paths.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/wait":
            self.may_go.wait(30)
        body = BIG if environ["PATH_INFO"] == "/big" else environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]


Serve = Callable[..., tuple[App, int]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server in a thread; returns its application and port."""
    started: list[tuple[App, Server, threading.Thread]] = []

    def serve(*, writable: bool = False, limits: Limits = SMALL) -> tuple[App, int]:
        app, access = App(), Access(writable=writable, token=TOKEN)
        server = Server(app, access, limits, "127.0.0.1", 0)
        thread = threading.Thread(target=run, args=(server,))
        thread.start()
        started.append((app, server, thread))
        return app, int(server.effective_port)

    yield serve
    for app, server, thread in started:
        app.may_go.set()
        server.is_ended = True
        with contextlib.suppress(OSError):  # it may have noticed, and closed its trigger
            server.pull_trigger()
        thread.join(10)
        assert not thread.is_alive()


def run(server: Any) -> None:
    """Run a server until its test is over."""
    server.is_ended = False
    while not server.is_ended:
        server.asyncore.loop(timeout=0.1, map=server._map, use_poll=True, count=1)
    server.task_dispatcher.shutdown()
    server.asyncore.close_all(server._map)


def connect(port: int, sent: str | bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(sent.encode() if isinstance(sent, str) else sent)
    return connection


def everything(connection: socket.socket) -> bytes:
    """All that the server sends until it closes."""
    received = []
    with connection, contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received.append(data)
    return b"".join(received)


def status(connection: socket.socket) -> int:
    return int(everything(connection).split()[1])


def healthy_within(port: int) -> float:
    began = time.monotonic()
    assert everything(connect(port, "GET /healthz HTTP/1.1\r\n\r\n")).endswith(b"ok")
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (f"POST / HTTP/1.1\r\n{HEAD}Content-Length: 99999999999\r\n\r\n", 413),
        (f"POST / HTTP/1.1\r\n{HEAD}Content-Length: 900\r\n\r\n", 401),
        (f"POST / HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n", 401),
        (f"POST / HTTP/1.1\r\n{HEAD}Expect: 100-continue\r\nContent-Length: 900\r\n\r\n", 401),
        (f"POST / HTTP/1.1\r\n{BEARER}Content-Length: 900\r\n\r\n", 405),
        (f"DELETE / HTTP/1.0\r\n{BEARER}Connection: keep-alive\r\nContent-Length: 900\r\n\r\n", 405),
        (f"POST / HTTP/1.1\r\n{BEARER.replace('localhost', 'evil.example')}Content-Length: 900\r\n\r\n", 403),
        (f"GET / HTTP/1.1\r\n{BEARER}Content-Length: 1000\r\n\r\n", 413),
        (f"GET / HTTP/1.1\r\n{BEARER}A: {'x' * 5000}\r\n\r\n", 431),
        (f"GET / HTTP/1.1\r\n{BEARER}A: {'x' * 5000}", 431),
        ("GET / HTTP/1.1\r\nBad Header\r\n\r\n", 400),
        ("\r\n\r\n", 400),
        ("\x00\x01\x02\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\n{BEARER}Transfer-Encoding: gzip\r\n\r\n", 501),
    ],
)
def test_the_head_decides_and_the_body_is_not_read(serve: Serve, head: str, code: int) -> None:
    app, port = serve()
    connection = connect(port, head)
    assert status(connection) == code
    assert app.paths == []


def test_a_refused_client_that_goes_on_sending_sees_the_answer_and_is_cut_off(serve: Serve) -> None:
    app, port = serve()
    followed = "GET /x HTTP/1.1\r\n\r\n" * 9
    connection = connect(port, f"POST / HTTP/1.1\r\n{HEAD}Content-Length: 900\r\n\r\n{followed}")
    sent = 0
    with connection, contextlib.suppress(ConnectionError):
        while sent < 100_000_000:
            sent += connection.send(b"x" * 65536)
    assert sent < 100_000_000
    assert app.paths == []
    connection = connect(port, f"POST / HTTP/1.1\r\n{HEAD}Content-Length: 9000\r\n\r\n")
    connection.sendall(b"x" * 9000)
    assert status(connection) == 413


def test_bodies_of_visitors_who_may_write_are_limited(serve: Serve) -> None:
    app, port = serve(writable=True)
    head = f"POST / HTTP/1.1\r\n{BEARER}Connection: close\r\n"
    assert everything(connect(port, f"{head}Content-Length: 999\r\n\r\n{'x' * 999}")).endswith(b"x" * 999)
    assert status(connect(port, f"{head}Content-Length: 1000\r\n\r\n")) == 413
    chunk = "3e8\r\n" + "x" * 1000 + "\r\n"
    assert status(connect(port, f"{head}Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n")) == 413
    assert app.paths == ["/"]


def test_requests_of_one_connection(serve: Serve) -> None:
    app, port = serve()
    head = f"GET /{{}} HTTP/1.1\r\n{BEARER}\r\n"
    several = head.format(1) + head.format(2) + "GET /healthz HTTP/1.1\r\n\r\n" + head.format(3)
    answered = everything(connect(port, several))
    assert answered.count(b"HTTP/1.1 200 OK") == 3
    assert app.paths == ["/1", "/2"]
    head = everything(connect(port, "HEAD /healthz HTTP/1.1\r\n\r\n")).decode()
    assert head.endswith("\r\n\r\n")
    assert "Content-Length: 2\r\n" in head


def test_slow_clients_are_cut_off(serve: Serve) -> None:
    _, port = serve()
    began = time.monotonic()
    trickles = {
        "nothing": connect(port),
        "line": connect(port, "GET / HT"),
        "headers": connect(port, f"GET / HTTP/1.1\r\n{BEARER}"),
        "body": connect(port, f"GET / HTTP/1.1\r\n{BEARER}Content-Length: 900\r\n\r\n"),
        "kept alive": connect(port, f"GET / HTTP/1.1\r\n{BEARER}\r\n"),
        "second request": connect(port, f"GET / HTTP/1.1\r\n{BEARER}\r\nGET / HTTP/1.1\r\n"),
    }
    untaken = connect(port, f"GET /big HTTP/1.1\r\n{BEARER}\r\n")
    left = dict(trickles)
    while left and time.monotonic() < began + 20:
        for name, connection in list(left.items()):
            connection.settimeout(0.05)
            try:
                if connection.recv(65536) == b"":
                    del left[name]
            except TimeoutError:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(b"A" if name in ("headers", "body", "second request") else b"")
            except ConnectionError:
                del left[name]
    for connection in trickles.values():
        connection.close()
    assert not left
    # Looked at once a second, on a machine that has other work.
    assert time.monotonic() < began + 10
    assert len(everything(untaken)) < len(BIG)
    # A client that takes its answer gets all of it; on a machine that has other work it begins late.
    _, port = serve(limits=replace(SMALL, send_s=10.0))
    assert everything(connect(port, f"GET /big HTTP/1.1\r\n{BEARER}Connection: close\r\n\r\n")).endswith(BIG)


@pytest.mark.parametrize("pause_s", [0.0, 0.02], ids=["at-once", "one-by-one"])
@pytest.mark.parametrize(("busy", "slow"), [(40, 60), (12, 60), (60, 0)])
def test_health_is_answered_whatever_the_others_do(serve: Serve, busy: int, slow: int, pause_s: float) -> None:
    app, port = serve(limits=Limits(connections=30))
    heads = [f"GET /wait HTTP/1.1\r\n{BEARER}\r\n"] * busy + [f"GET / HTTP/1.1\r\n{BEARER}"] * slow
    with contextlib.ExitStack() as connections:
        for head in heads:
            connections.enter_context(connect(port, head))
            time.sleep(pause_s)
        assert healthy_within(port) < 5  # without the threads, which wait for this test
        assert status(connect(port, f"GET / HTTP/1.1\r\n{HEAD}\r\n")) == 401
        app.may_go.set()

    def answered() -> bool:
        after = everything(connect(port, f"GET /after HTTP/1.1\r\n{BEARER}Connection: close\r\n\r\n"))
        return after.startswith(b"HTTP/1.1 200")

    wait_until(answered, "a thread that is free again")
    assert app.paths[-1] == "/after"


def test_requests_that_wait_for_a_thread_leave_half_of_the_connections_free(serve: Serve) -> None:
    app, port = serve(limits=Limits(connections=30))
    wait = f"GET /wait HTTP/1.1\r\n{BEARER}Connection: close\r\n\r\n"
    with contextlib.ExitStack() as connections:
        waiting = []
        for _ in range(15):
            waiting.append(connections.enter_context(connect(port, wait)))
            assert healthy_within(port) < 5  # the loop has read the request before
        assert [status(connect(port, wait)) for _ in range(20)] == [503] * 20
        app.may_go.set()
        assert [status(connection) for connection in waiting] == [200] * 15
