"""Equal questions that arrive while one of them is being answered get the same answer; answers are compressed."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from search.web.access import READING
from search.web.responses import Response, accepts_gzip

_COMPUTED = ("/api/", "/csv/")
_VARY = ("Vary", "Accept-Encoding")


class SharedAnswers:
    """Computes equal GET requests once.

    Args:
        app: An application whose answers depend on the path and the query alone.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._pending: dict[tuple[str, str, bool], Future[Response]] = {}
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in READING:
            try:
                return self._app(environ, start_response)
            finally:
                # A request that comes from now on must see what has changed.
                with self._lock:
                    self._pending.clear()
        path = str(environ["PATH_INFO"])
        if environ["REQUEST_METHOD"] != "GET" or not path.startswith(_COMPUTED):
            return self._app(environ, start_response)
        key = (path, str(environ.get("QUERY_STRING", "")), accepts_gzip(environ))
        return self._answer(key, environ).to_wsgi(environ, start_response)

    def _answer(self, key: tuple[str, str, bool], environ: WSGIEnvironment) -> Response:
        with self._lock:
            pending = self._pending.get(key)
            is_first = pending is None
            if pending is None:
                pending = self._pending[key] = Future()
        if is_first:
            try:
                pending.set_result(self._compute(key, environ))
            except BaseException as error:
                pending.set_exception(error)
            finally:
                with self._lock:
                    if self._pending.get(key) is pending:
                        del self._pending[key]
        return pending.result()

    def _compute(self, key: tuple[str, str, bool], environ: WSGIEnvironment) -> Response:
        response = Response.of(self._app, environ)
        response = response.compressed() if key[-1] else response
        return response.with_body(response.body, _VARY) if response.body else response
