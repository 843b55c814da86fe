"""Whole responses of a WSGI application, to be changed or given to several clients."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

# The fastest level: JSON of trials shrinks to a tenth, and the next levels take twice as long for a few percent.
_LEVEL = 1
_SMALL = 1_000
_TEXTS = ("application/json", "text/csv", "text/html")


@dataclass(frozen=True)
class Response:
    """A response.

    Attributes:
        status: Such as "200 OK".
    """

    status: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @classmethod
    def of(cls, app: WSGIApplication, environ: WSGIEnvironment) -> Response:
        """Ask an application, which must not use the function `write` of WSGI; bottle does not."""
        started: list[Any] = []

        def start(*response: Any) -> Any:
            started[:] = response
            return started.append

        body = app(environ, start)
        try:
            content = b"".join(body)
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()
        return cls(started[0], tuple(started[1]), content)

    def header(self, wanted: str) -> str:
        """The value of a header; empty if there is none."""
        return next((value for name, value in self.headers if name.lower() == wanted), "")

    def with_body(self, body: bytes, *headers: tuple[str, str]) -> Response:
        """The response with another body, and further headers."""
        kept = [(name, value) for name, value in self.headers if name.lower() != "content-length"]
        return replace(self, headers=(*kept, ("Content-Length", str(len(body))), *headers), body=body)

    def compressed(self) -> Response:
        """The response for a client that understands gzip."""
        kind = self.header("content-type").partition(";")[0]
        if len(self.body) < _SMALL or kind not in _TEXTS or self.header("content-encoding"):
            return self
        return self.with_body(gzip.compress(self.body, _LEVEL, mtime=0), ("Content-Encoding", "gzip"))

    def to_wsgi(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request; HEAD gets no body."""
        start_response(self.status, list(self.headers))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self.body]


def accepts_gzip(environ: WSGIEnvironment) -> bool:
    """Whether the client of a request understands gzip."""
    for each in str(environ.get("HTTP_ACCEPT_ENCODING", "")).lower().split(","):
        name, _, quality = each.replace(" ", "").partition(";q=")
        if name == "gzip":
            return quality.strip("0.") != "" or not quality
    return False
