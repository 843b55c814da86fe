"""What stands between the network and optuna-dashboard, which itself lets anyone delete a study."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from search.web.answers import plain_answer

COOKIE = "lm-search-token"
HEALTH_PATH = "/healthz"
READING = frozenset({"GET", "HEAD"})
RETRY_S = 2.0


class AuthMiddleware:
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
            return plain_answer(start_response, "200 OK", "ok")
        if self._token is not None and not self._knows_token(environ):
            return plain_answer(
                start_response,
                "401 Unauthorized",
                "A token is needed: open /?token=…, or send the header Authorization: Bearer …",
                [("WWW-Authenticate", "Bearer")],
            )
        if environ["REQUEST_METHOD"] not in READING:
            if not self._writable:
                return plain_answer(
                    start_response,
                    "405 Method Not Allowed",
                    "This dashboard only shows; start it with --writable to change something.",
                    [("Allow", "GET, HEAD")],
                )
            if _is_foreign(environ):
                return plain_answer(start_response, "403 Forbidden", "The request comes from a page of another site.")
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
        return plain_answer(start_response, "303 See Other", "", headers)


def _query_token(environ: WSGIEnvironment) -> str | None:
    tokens = parse_qs(str(environ.get("QUERY_STRING", ""))).get("token")
    return tokens[0] if tokens else None


def _is_foreign(environ: WSGIEnvironment) -> bool:
    """True for a request that another site's page made a browser send."""
    origin = environ.get("HTTP_ORIGIN")
    return origin is not None and urlsplit(origin).netloc != environ.get("HTTP_HOST")
