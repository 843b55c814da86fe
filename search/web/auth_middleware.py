"""Access checks in front of optuna-dashboard, which itself lets any visitor delete a study."""

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
    """Passes on the requests that are allowed, and answers the others with an error.

    Args:
        app: The dashboard.
        writable: Whether requests that change something are allowed.
        token: The token that a visitor must present; None if the dashboard is open to all.
    """

    def __init__(self, app: WSGIApplication, *, writable: bool, token: str | None) -> None:
        self._app, self._writable, self._token = app, writable, token

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == HEALTH_PATH:
            return plain_answer(start_response, "200 OK", "ok")
        if self._token is not None and not self._has_token(environ):
            return plain_answer(
                start_response,
                "401 Unauthorized",
                "A token is required: open /?token=…, or send the header Authorization: Bearer …",
                [("WWW-Authenticate", "Bearer")],
            )
        if environ["REQUEST_METHOD"] not in READING:
            if not self._writable:
                return plain_answer(
                    start_response,
                    "405 Method Not Allowed",
                    "This dashboard is read-only; start it with --writable to allow changes.",
                    [("Allow", "GET, HEAD")],
                )
            if _is_foreign(environ):
                return plain_answer(start_response, "403 Forbidden", "The request comes from a page of another site.")
        if self._token is not None and _query_token(environ) is not None:
            return self._remember_token(environ, start_response)
        return self._app(environ, start_response)

    def _has_token(self, environ: WSGIEnvironment) -> bool:
        assert self._token is not None
        cookie = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(COOKIE)
        presented = [
            _query_token(environ),
            cookie.value if cookie else None,
            environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer "),
        ]
        # In constant time; otherwise the response time would reveal how much of a guess is right.
        return any(hmac.compare_digest((each or "").encode(), self._token.encode()) for each in presented)

    def _remember_token(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # A cookie keeps the token out of the address bar, the history and the referrers.
        cookie = f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"
        headers = [("Set-Cookie", cookie), ("Location", environ["PATH_INFO"] or "/")]
        return plain_answer(start_response, "303 See Other", "", headers)


def _query_token(environ: WSGIEnvironment) -> str | None:
    tokens = parse_qs(str(environ.get("QUERY_STRING", ""))).get("token")
    return tokens[0] if tokens else None


def _is_foreign(environ: WSGIEnvironment) -> bool:
    """Whether a page of another site made the browser send the request."""
    origin = environ.get("HTTP_ORIGIN")
    return origin is not None and urlsplit(origin).netloc != environ.get("HTTP_HOST")
