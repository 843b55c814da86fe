"""Times in the JSON of optuna-dashboard that name their zone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from search.web.responses import Response

_JSON_PATHS = ("/api/",)
# Quotes within a JSON text are escaped, so this finds keys only, whatever a note or an attribute contains.
_TIME = re.compile(rb'("datetime_(?:start|complete)": ?")(\d{4}-\d\d-\d\dT[\d:.]+)(?=")')


class ZonedTimes:
    """Adds the zone to times: optuna-dashboard sends local ones without, which a browser takes for its own.

    Args:
        app: optuna-dashboard.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not str(environ["PATH_INFO"]).startswith(_JSON_PATHS):
            return self._app(environ, start_response)
        response = Response.of(self._app, environ)
        if response.body:
            response = response.with_body(_TIME.sub(_with_zone, response.body))
        return response.to_wsgi(environ, start_response)


def with_zone(time: str) -> str:
    """A local time with its zone."""
    return datetime.fromisoformat(time).astimezone().isoformat()


def _with_zone(found: re.Match[bytes]) -> bytes:
    return found[1] + with_zone(found[2].decode()).encode()
