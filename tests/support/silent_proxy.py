"""A TCP proxy in front of a server that can fall silent: connections stay open, and nothing passes any more."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

from sqlalchemy.engine import make_url


class SilentProxy:
    """Forwards connections to a port of this machine until it is silenced; use it as a context.

    The kernel acknowledges what arrives, as for a stopped process or pooler, so TCP alone never notices.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        self._is_silent = False
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, through: str) -> str:
        """A storage URL that leads through the proxy."""
        return make_url(through).set(port=self.port).render_as_string(hide_password=False)

    def silence(self, *, new_ones: bool = True) -> None:
        """Stop forwarding what is open, and by default what is opened later."""
        self._silent.update(self._sockets)
        self._is_silent = new_ones

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                if self._is_silent:
                    self._silent.add(client)
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets.append(server)
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source in self._silent:
                    return
                sink.sendall(data)
            if source not in self._silent:
                sink.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
