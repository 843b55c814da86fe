"""Equal questions of several clients are computed once, and none gets an answer from before a change."""

from __future__ import annotations

import gzip
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from wsgi_client import Answered, ask

from search.web import shared_answers
from search.web.responses import accepts_gzip
from search.web.shared_answers import SharedAnswers

TEXT = b'{"name": "value"}' * 1000


class Slow:
    """An application whose answers wait for a gate, and count."""

    def __init__(self) -> None:
        self.open, self.entered, self.asked = threading.Event(), threading.Semaphore(0), list[str]()

    def __call__(self, environ: Any, start: Any) -> list[bytes]:
        self.asked.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}")
        if environ["REQUEST_METHOD"] == "GET":
            self.entered.release()
            self.open.wait(30)
        if environ["PATH_INFO"] == "/api/broken":
            raise RuntimeError("broken")
        start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(TEXT)))])
        return [TEXT]


def test_equal_questions_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Semaphore(0)

    class Watched(Future[Any]):
        def result(self, timeout: float | None = None) -> Any:
            waiting.release()
            return super().result(timeout)

    monkeypatch.setattr(shared_answers, "Future", Watched)
    slow = Slow()
    app = SharedAnswers(slow)
    with ThreadPoolExecutor(9) as threads:
        asked = [threads.submit(ask, app, "/api/studies/1", ACCEPT_ENCODING="gzip") for _ in range(6)]
        for _ in range(5):
            assert waiting.acquire(timeout=30)
        others = [threads.submit(ask, app, "/api/studies/1?after=1"), threads.submit(ask, app, "/api/studies/1")]
        for _ in range(3):
            assert slow.entered.acquire(timeout=30)
        slow.open.set()
        answers = [each.result(30) for each in asked]
        assert [each.result(30).body for each in others] == [TEXT, TEXT]
    assert sorted(slow.asked) == ["GET /api/studies/1?", "GET /api/studies/1?", "GET /api/studies/1?after=1"]
    assert {answer.content for answer in answers} == {TEXT}
    assert all(len(answer.body) < len(TEXT) / 5 for answer in answers)
    assert all(answer.headers["vary"] == "Accept-Encoding" for answer in answers)


def test_a_change_ends_the_sharing() -> None:
    slow = Slow()
    app = SharedAnswers(slow)
    with ThreadPoolExecutor(2) as threads:
        before = threads.submit(ask, app, "/api/studies/1")
        assert slow.entered.acquire(timeout=30)
        assert ask(app, "/api/studies/1/note", "PUT").status == "200 OK"
        after = threads.submit(ask, app, "/api/studies/1")
        assert slow.entered.acquire(timeout=30)
        slow.open.set()
        assert before.result(30).body == after.result(30).body == TEXT
    assert len(slow.asked) == 3


def test_an_error_is_everybodys() -> None:
    slow = Slow()
    app = SharedAnswers(slow)
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(ask, app, "/api/broken") for _ in range(2)]
        assert slow.entered.acquire(timeout=30)
        slow.open.set()
        for each in asked:
            with pytest.raises(RuntimeError, match="broken"):
                each.result(30)
    with pytest.raises(RuntimeError, match="broken"):
        ask(app, "/api/broken")


def test_what_is_compressed() -> None:
    def answered(path: str, kind: str, body: bytes, accepts: str, **more: str) -> Answered:
        def app(_environ: Any, start: Any) -> list[bytes]:
            headers = [("Content-Type", kind), ("Content-Length", str(len(body))), *more.items()]
            start("200 OK", headers)
            return [body[:5], body[5:]]

        return ask(SharedAnswers(app), path, ACCEPT_ENCODING=accepts)

    for path, kind in (("/api/studies", "application/json"), ("/csv/1", "text/csv; chatset=cp932")):
        packed = answered(path, kind, TEXT, "br, gzip")
        assert (packed.headers["content-encoding"], packed.content) == ("gzip", TEXT)
        assert packed.headers["content-length"] == str(len(packed.body))
    for path, kind, body, accepts in (
        ("/api/studies", "application/json", TEXT, ""),
        ("/api/studies", "application/json", TEXT, "gzip;q=0, br"),
        ("/api/studies", "application/json", b"{}", "gzip"),
        ("/api/studies", "image/png", TEXT, "gzip"),
        ("/artifacts/1/2/3", "application/json", TEXT, "gzip"),
    ):
        plain = answered(path, kind, body, accepts)
        assert ("content-encoding" in plain.headers, plain.body) == (False, body)
    packed = answered("/api/studies", "application/json", gzip.compress(TEXT), "gzip", **{"Content-Encoding": "gzip"})
    assert packed.content == TEXT


@pytest.mark.parametrize(
    ("header", "does"),
    [
        *[("gzip", True), ("br, GZIP;q=0.5", True), ("gzip; q=1.0", True), ("gzip;q=0", False), ("gzip;q=0.0", False)],
        *[("", False), ("br, deflate", False), ("*", False), ("x-gzip", False)],
    ],
)
def test_who_understands_gzip(header: str, does: bool) -> None:
    assert accepts_gzip({"HTTP_ACCEPT_ENCODING": header}) is does
