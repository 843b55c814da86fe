"""The headers of each response, and times that name their zone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from search.web.json_times import ZonedTimes
from search.web.response_policy import ARTIFACT_TYPES, ResponsePolicy, protected

ACTIVE = (
    *("text/html", "TEXT/HTML; charset=utf-8", "image/svg+xml", "application/xhtml+xml", "text/xml", "application/xml"),
    *("text/javascript", "application/javascript", "application/pdf", "text/css", "application/x-shockwave-flash"),
    *("multipart/x-mixed-replace", "text/markdown", "application/wasm", "text/plain, text/html", "", "image/png x"),
)


def headers_of(path: str, *sent: tuple[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in protected(path, sent):
        found.setdefault(name.lower(), []).append(value)
    return found


@pytest.mark.parametrize("kind", ACTIVE)
def test_active_artifacts_are_bytes_to_be_saved(kind: str) -> None:
    sent = [("Content-Type", kind), ("Access-Control-Allow-Origin", "*"), ("Content-Disposition", "inline")]
    found = headers_of("/artifacts/1/2/abc", *sent)
    assert found["content-type"] == ["application/octet-stream"]
    assert found["content-disposition"] == ["attachment"]
    assert found["x-content-type-options"] == ["nosniff"]
    assert "default-src 'none'; sandbox" in found["content-security-policy"]
    assert "access-control-allow-origin" not in found


def test_types_that_carry_no_code_are_kept() -> None:
    for kind in (*ARTIFACT_TYPES, "text/plain; charset=utf-8"):
        found = headers_of("/artifacts/1/abc", ("content-type", kind))
        assert (found["content-type"], found["content-disposition"]) == ([kind], ["attachment"])
    assert headers_of("/artifacts/1/abc")["content-type"] == ["application/octet-stream"]


@pytest.mark.parametrize("path", ["/", "/dashboard", "/static/bundle.js", "/api/studies", "/csv/1", "/artifacts/1/a"])
def test_every_response_forbids_frames_and_keeps_addresses_to_itself(path: str) -> None:
    found = headers_of(path, ("Content-Security-Policy", "default-src 'self'"))
    assert found["x-frame-options"] == ["DENY"]
    assert found["referrer-policy"] == ["same-origin"]
    assert any("frame-ancestors 'none'" in policy for policy in found["content-security-policy"])
    assert "default-src 'self'" in found["content-security-policy"]


@pytest.fixture(params=["UTC", "Asia/Kolkata", "America/St_Johns", "Pacific/Auckland"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The time zone of this process."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def answered(path: str, sent: dict[str, Any], method: str = "GET") -> tuple[bytes, dict[str, str]]:
    text = json.dumps(sent).encode()
    headers: dict[str, str] = {}

    def app(_environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [("Content-Length", str(len(text)))])
        return [text[:10], text[10:]] if method == "GET" else []

    def start(_status: str, sent: list[tuple[str, str]], _error: Any = None, /) -> Any:
        headers.update(sent)

    body = b"".join(ResponsePolicy(ZonedTimes(app))({"PATH_INFO": path, "REQUEST_METHOD": method}, start))
    return body, headers


def test_times_name_their_zone(zone: str) -> None:
    moments = [datetime(2026, 1, 5, 23, 59, 59, 250, UTC), datetime(2026, 7, 5, tzinfo=UTC)]
    local = [moment.astimezone().replace(tzinfo=None).isoformat() for moment in moments]
    text = f'"datetime_start": "{local[0]}"'
    sent = {"datetime_start": local[0], "datetime_complete": local[1], "note": text, "a": {"datetime": local[0]}}
    body, headers = answered("/api/studies/1", sent)
    got = json.loads(body)
    assert [datetime.fromisoformat(got[f"datetime_{name}"]) for name in ("start", "complete")] == moments
    assert all(datetime.fromisoformat(got[f"datetime_{name}"]).tzinfo for name in ("start", "complete"))
    assert (got["note"], got["a"]) == (sent["note"], sent["a"])
    assert headers["Content-Length"] == str(len(body))
    assert answered("/dashboard", sent)[0] == json.dumps(sent).encode()
    assert answered("/api/studies/1", sent, "HEAD")[0] == b""
