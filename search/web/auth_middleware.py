"""Access checks in front of optuna-dashboard, which itself lets any visitor delete a study."""

from __future__ import annotations

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from search.web.access import Access, Request


class AuthMiddleware:
    """Passes on the requests that are allowed, and answers the others.

    Args:
        app: The dashboard.
        access: The rules.
    """

    def __init__(self, app: WSGIApplication, access: Access) -> None:
        self._app, self._access = app, access

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = self._access.answer(Request.from_environ(environ))
        return self._app(environ, start_response) if answer is None else answer.to_wsgi(start_response)
