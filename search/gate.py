"""What stands between the network and optuna-dashboard, which itself lets anyone delete a study."""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable, Iterable
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

COOKIE = "lm-search-token"
HEALTH_PATH = "/healthz"
READING = frozenset({"GET", "HEAD"})
RETRY_S = 2.0


class Gate:
    """Lets through what may pass.

    Args:
        app: The dashboard.
        writable: Whether requests that change something may pass.
        token: What a visitor must show, None for an open door.
    """

    def __init__(self, app: WSGIApplication, *, writable: bool, token: str | None) -> None:
        self._app, self._writable, self._token = app, writable, token

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == HEALTH_PATH:
            return _answer(start_response, "200 OK", "ok")
        if self._token is not None and not self._knows_token(environ):
            return _answer(
                start_response,
                "401 Unauthorized",
                "A token is needed: open /?token=…, or send the header Authorization: Bearer …",
                [("WWW-Authenticate", "Bearer")],
            )
        if environ["REQUEST_METHOD"] not in READING:
            if not self._writable:
                return _answer(
                    start_response,
                    "405 Method Not Allowed",
                    "This dashboard only shows; start it with --writable to change something.",
                    [("Allow", "GET, HEAD")],
                )
            if _is_foreign(environ):
                return _answer(start_response, "403 Forbidden", "The request comes from a page of another site.")
        if self._token is not None and _query_token(environ) is not None:
            return self._remember_token(environ, start_response)
        return self._app(environ, start_response)

    def _knows_token(self, environ: WSGIEnvironment) -> bool:
        assert self._token is not None
        cookie = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(COOKIE)
        shown = [
            _query_token(environ),
            cookie.value if cookie else None,
            environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer "),
        ]
        # In constant time, or the time to a refusal would tell how much of a guess is right.
        return any(hmac.compare_digest((each or "").encode(), self._token.encode()) for each in shown)

    def _remember_token(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # Out of the address bar, the history and the referrers, into a cookie.
        cookie = f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"
        headers = [("Set-Cookie", cookie), ("Location", environ["PATH_INFO"] or "/")]
        return _answer(start_response, "303 See Other", "", headers)


class WaitingRoom:
    """Shows a page that says what is missing until `open_app` succeeds.

    Args:
        open_app: Makes the dashboard, or raises one of `not_yet`.
    """

    def __init__(self, open_app: Callable[[], WSGIApplication], not_yet: tuple[type[Exception], ...]) -> None:
        self._open_app, self._not_yet = open_app, not_yet
        self._app: WSGIApplication | None = None
        self._reason, self._tried_at = "", -RETRY_S
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        app = self._current()
        if app is not None:
            return app(environ, start_response)
        return _answer(
            start_response, "503 Service Unavailable", self._reason, [("Refresh", "3"), ("Retry-After", "3")]
        )

    def _current(self) -> WSGIApplication | None:
        with self._lock:
            if self._app is None and time.monotonic() - self._tried_at >= RETRY_S:
                try:
                    self._app = self._open_app()
                except self._not_yet as error:
                    self._reason, self._tried_at = f"Nothing to show yet: {error}", time.monotonic()
            return self._app


def _query_token(environ: WSGIEnvironment) -> str | None:
    tokens = parse_qs(str(environ.get("QUERY_STRING", ""))).get("token")
    return tokens[0] if tokens else None


def _is_foreign(environ: WSGIEnvironment) -> bool:
    """True for a request that another site's page made a browser send."""
    origin = environ.get("HTTP_ORIGIN")
    return origin is not None and urlsplit(origin).netloc != environ.get("HTTP_HOST")


def _answer(
    start_response: StartResponse, status: str, text: str, headers: list[tuple[str, str]] | None = None
) -> Iterable[bytes]:
    body = text.encode()
    common = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(status, [*common, ("Cache-Control", "no-store"), *(headers or [])])
    return [body]
