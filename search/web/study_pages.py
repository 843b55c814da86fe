"""Answers what the page of a study asks most, in place of optuna-dashboard: the study with its trials, importances."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from search.storage.errors import StorageError
from search.storage.optuna_storage import SearchStorage
from search.web.access import READING
from search.web.responses import Response
from search.web.study_copy import StudyCopy

log = logging.getLogger("search")

# A copy of a large study takes some 30 MB.
MOST_COPIES = 8
_QUESTION = re.compile(r"/api/studies/(?P<study>\d{1,18})(?P<importances>/param_importances)?/*")
_JSON = (("Content-Type", "application/json"),)


class StudyPages:
    """Studies from memory; all other requests go to optuna-dashboard.

    Args:
        app: optuna-dashboard.
        storage: The storage that it uses.
    """

    def __init__(self, app: WSGIApplication, storage: SearchStorage) -> None:
        self._app, self._storage = app, storage
        self._copies: OrderedDict[int, StudyCopy] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in READING:
            try:
                return self._app(environ, start_response)
            finally:
                self._expire()
        answer = self._answer(str(environ["PATH_INFO"]), str(environ.get("QUERY_STRING", "")))
        return self._app(environ, start_response) if answer is None else answer.to_wsgi(environ, start_response)

    def _answer(self, path: str, query: str) -> Response | None:
        """The answer; None if optuna-dashboard is to give it."""
        question = _QUESTION.fullmatch(path)
        after = dict(parse_qsl(query, keep_blank_values=True)).get("after", "0")
        if question is None or not re.fullmatch(r"[0-9]{1,18}", after):
            return None
        study_id = int(question["study"])
        copy = self._copy(study_id)
        try:
            page = copy.page()
            if page is None:
                self._forget(study_id, copy)
                return _missing(study_id)
            if page.is_preferential:
                return None
            if question["importances"]:
                return _json("200 OK", {"param_importances": copy.importances(page)})
        except KeyError:
            return _missing(study_id)
        except ValueError as error:
            log.warning("cannot compute the importances of the study %d: %s", study_id, error)
            return _json("400 Bad Request", {"reason": "Failed to calculate parameter importances."})
        except StorageError as error:
            log.warning("cannot show the study %d: %s", study_id, error)
            return _json("503 Service Unavailable", {"reason": "The database does not answer: try again in a minute."})
        return _response("200 OK", page.json(int(after)))

    def _copy(self, study_id: int) -> StudyCopy:
        with self._lock:
            copy = self._copies.pop(study_id, None) or StudyCopy(self._storage, study_id)
            self._copies[study_id] = copy
            if len(self._copies) > MOST_COPIES:
                self._copies.popitem(last=False)
            return copy

    def _forget(self, study_id: int, copy: StudyCopy) -> None:
        with self._lock:
            if self._copies.get(study_id) is copy:
                del self._copies[study_id]

    def _expire(self) -> None:
        with self._lock:
            for copy in self._copies.values():
                copy.expire()


def _missing(study_id: int) -> Response:
    return _json("404 Not Found", {"reason": f"study_id={study_id} is not found"})


def _json(status: str, content: dict[str, Any]) -> Response:
    return _response(status, json.dumps(content).encode())


def _response(status: str, body: bytes) -> Response:
    return Response(status, (*_JSON, ("Content-Length", str(len(body)))), body)
