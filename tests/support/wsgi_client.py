"""A client of WSGI applications in this process, without a network."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import dataclass
from typing import Any
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults


@dataclass(frozen=True)
class Answered:
    """A response; the headers' names are in lower case."""

    status: str
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> bytes:
        """The body as it was before it was compressed."""
        return gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body

    def json(self) -> Any:
        """What the body holds."""
        return json.loads(self.content)


def ask(app: WSGIApplication, url: str, method: str = "GET", sent: Any = None, **headers: str) -> Answered:
    """One request.

    Args:
        url: Path and query.
        sent: The body, to be sent as JSON.
        headers: Names as in WSGI, without HTTP_.
    """
    path, _, query = url.partition("?")
    body = b"" if sent is None else json.dumps(sent).encode()
    environ: dict[str, Any] = {f"HTTP_{name}": value for name, value in headers.items()}
    environ |= {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method, "wsgi.errors": io.StringIO()}
    environ |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
    setup_testing_defaults(environ)
    started: list[Any] = []

    def start(*response: Any) -> Any:
        started[:] = response
        return started.append

    content = b"".join(app(environ, start))
    assert environ["wsgi.errors"].getvalue() == ""
    return Answered(started[0], {name.lower(): value for name, value in started[1]}, content)
