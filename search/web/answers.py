"""Plain text responses in addition to the dashboard's."""

from __future__ import annotations

from collections.abc import Iterable
from wsgiref.types import StartResponse


def plain_answer(
    start_response: StartResponse, status: str, text: str, headers: list[tuple[str, str]] | None = None
) -> Iterable[bytes]:
    """Answer a WSGI request with a text that is never cached.

    Args:
        status: Such as "200 OK".
        headers: Further headers.
    """
    body = text.encode()
    common = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(status, [*common, ("Cache-Control", "no-store"), *(headers or [])])
    return [body]
