"""The dashboard of a database that may not be ready yet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from search.web.answers import Answer

RETRY_S = 2.0


class LazyApp:
    """Answers with 503 and the reason until `open_app` succeeds, then passes requests on.

    Args:
        open_app: Makes the dashboard, or raises one of `not_yet`.
        not_yet: The errors after which it tries again, at most every `RETRY_S` seconds.
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
        headers = (("Refresh", "3"), ("Retry-After", "3"))
        return Answer("503 Service Unavailable", self._reason, headers).to_wsgi(start_response)

    def _current(self) -> WSGIApplication | None:
        with self._lock:
            if self._app is None and time.monotonic() - self._tried_at >= RETRY_S:
                try:
                    self._app = self._open_app()
                except self._not_yet as error:
                    self._reason, self._tried_at = f"Nothing to show yet: {error}", time.monotonic()
            return self._app
