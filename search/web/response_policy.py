"""Headers of all responses: what a browser may do with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

# Files of trials come from training code and, with --writable, from visitors. A browser must neither run one nor guess
# that it is another type, so these types carry no code, and all others are bytes.
ARTIFACT_TYPES = frozenset(
    {
        *{"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"},
        *{"audio/mpeg", "audio/wav", "audio/x-wav", "audio/ogg", "audio/flac", "audio/aac"},
        *{"video/mp4", "video/webm", "video/ogg", "text/plain", "text/csv", "application/json"},
    }
)
BYTES = "application/octet-stream"
_ARTIFACT_PATHS = ("/artifacts/",)
_JSON_PATHS = ("/api/",)
_FRAMES = "frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'"

#: Of every response.
COMMON_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    # It adds to the page's own policy: a browser applies both.
    ("Content-Security-Policy", _FRAMES),
)
_NO_CODE = (("Content-Security-Policy", "default-src 'none'; sandbox"),)
_ATTACHMENT = (*_NO_CODE, ("Content-Disposition", "attachment"))
# Never sent: it would let the pages of other sites read a response.
_FOREIGN = frozenset({"access-control-allow-origin", "access-control-allow-credentials"})


class ResponsePolicy:
    """Adds the headers to the dashboard's responses.

    Args:
        app: The dashboard.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = str(environ["PATH_INFO"])

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, protected(path, headers), *error)

        return self._app(environ, start)


def protected(path: str, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers of a response with those that restrict what a browser does with it.

    Args:
        path: The path of the request.
        headers: What the dashboard sends.
    """
    kept = [(name, value) for name, value in headers if name.lower() not in _FOREIGN]
    if path.startswith(_ARTIFACT_PATHS):
        dropped = ("content-disposition", "content-type", "content-encodings")
        kind = next((value for name, value in kept if name.lower() == "content-type"), BYTES)
        kept = [(name, value) for name, value in kept if name.lower() not in dropped]
        kept += [("Content-Type", kind if _media_type(kind) in ARTIFACT_TYPES else BYTES), *_ATTACHMENT]
    elif path.startswith(_JSON_PATHS):
        kept += _NO_CODE
    return [*kept, *COMMON_HEADERS]


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
