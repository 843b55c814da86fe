"""Plain text responses in addition to the dashboard's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from wsgiref.types import StartResponse


@dataclass(frozen=True)
class Answer:
    """A plain text response that is never cached.

    Attributes:
        status: Such as "200 OK".
        text: The body.
        headers: Further headers.
    """

    status: str
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def to_wsgi(self, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a WSGI request."""
        start_response(self.status, self._all_headers())
        return [self.text.encode()]

    def to_bytes(self, headers: Iterable[tuple[str, str]], *, with_body: bool) -> bytes:
        """Return the HTTP/1.1 response of a connection that closes after it.

        Args:
            headers: Headers of all responses.
            with_body: False for the response to a HEAD request.
        """
        lines = [f"{name}: {value}\r\n" for name, value in (*self._all_headers(), *headers, ("Connection", "close"))]
        head = f"HTTP/1.1 {self.status}\r\n{''.join(lines)}\r\n"
        return head.encode("latin-1") + (self.text.encode() if with_body else b"")

    def _all_headers(self) -> list[tuple[str, str]]:
        length = str(len(self.text.encode()))
        common = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", length)]
        return [*common, ("Cache-Control", "no-store"), *self.headers]
