"""The dashboard behind its gate, over HTTP: it shows, and lets nobody change anything who may not."""

from __future__ import annotations

import http.client
import json
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sample_study import STUDY, sample_plan
from study_files import program

from benchmarks.served_dashboard import served_dashboard
from search.dashboard import warn_of_options
from search.options import DashboardOptions
from search.storage.artifact_store import artifact_id, open_store, put
from search.storage.connect import open_database
from search.storage.planning import plan
from search.storage.queue import TrialQueue

TOKEN = "0123456789abcdef0123"
Start = Callable[..., int]


def planned(folder: Path) -> str:
    """A database with a study."""
    url = f"sqlite:///{folder / 'search.db'}"
    with open_database(url, create=True).closing() as database:
        plan(database, [sample_plan()])
    return url


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers of one request; the headers' names in lower case."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def studies(port: int) -> list[str]:
    """The names of the studies that it shows."""
    status, body, _ = ask(port, "/api/studies")
    assert status == 200, body
    return [study["study_name"] for study in json.loads(body)["study_summaries"]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the program and returns its port."""
    with ExitStack() as running:
        yield lambda url, *arguments: running.enter_context(served_dashboard(url, tmp_path, *arguments)).port


def content(folder: Path) -> list[str]:
    """Everything in the database."""
    connection = sqlite3.connect(folder / "search.db")
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def test_shows_and_changes_nothing(tmp_path: Path, start: Start) -> None:
    port = start(planned(tmp_path))
    assert studies(port) == ["small"]
    assert ask(port, "/dashboard")[0] == 200
    before = content(tmp_path)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in ("/api/studies", "/api/studies/1", "/api/studies/1/rename", "/api/trials/1/tell"):
            status, body, headers = ask(port, path, method)
            assert (status, headers["allow"]) == (405, "GET, HEAD")
            assert "--writable" in body
    assert content(tmp_path) == before


def with_artifact(folder: Path) -> tuple[str, str]:
    """A database with a trial that has ended with an artifact; its URL, and the artifact's path in the dashboard."""
    url = planned(folder)
    (folder / "search-out").mkdir()
    (folder / "search-out" / "secret").write_text("hidden words")
    with open_database(url, create=False).closing() as database:
        queue, store = TrialQueue(database), open_store(str(folder / "search-out" / "artifacts"))
        [lease] = queue.claim([STUDY], "worker")
        its_id = artifact_id("trial", lease.token, "curve.csv")
        queue.finish(lease, "complete", 1.0, {}, None, put(store, its_id, "curve.csv", b"step,loss"))
        # What a person may have written who can write to the database, but not to this machine.
        [lease] = queue.claim([STUDY], "worker")
        meta = json.dumps({"artifact_id": "../secret", "filename": "x", "mimetype": "text/plain", "encoding": None})
        queue.finish(lease, "complete", 1.0, {}, None, {"artifacts:../secret": meta})
    return url, f"/artifacts/1/1/{its_id}"


def test_artifacts_are_served_and_nothing_beside_them(tmp_path: Path, start: Start) -> None:
    url, path = with_artifact(tmp_path)
    port = start(url)
    status, body, headers = ask(port, path)
    assert (status, body, headers["content-type"]) == (200, "step,loss", "text/csv")
    dots = (
        "../secret",
        "..%2Fsecret",
        "%2e%2e/secret",
        "%2e%2e%2fsecret",
        "..%252Fsecret",
        "..\\secret",
        "..%5Csecret",
    )
    for ending in (*dots, "/etc/passwd", "%2Fetc%2Fpasswd", ".parts", "%00", "../../search.db", "..%2F..%2Fsearch.db"):
        for base in ("/artifacts/1/1/", "/artifacts/1/2/", "/artifacts/1/", "/artifacts/", path + "/"):
            status, body, _ = ask(port, base + ending)
            assert status in (400, 404), (base + ending, status)
            assert "hidden words" not in body


def test_artifacts_are_not_changed_and_not_shown_to_strangers(tmp_path: Path, start: Start) -> None:
    url, path = with_artifact(tmp_path)
    before, kept = content(tmp_path), sorted((tmp_path / "search-out" / "artifacts").rglob("*"))
    port = start(url)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for each in (path, f"/api{path}", "/api/artifacts/1/1", "/api/artifacts/1"):
            assert ask(port, each, method)[0] == 405
    file = tmp_path / "token"
    file.write_text(TOKEN)
    guarded = start(url, "--token-file", str(file))
    assert ask(guarded, path)[0] == 401
    assert ask(guarded, path, Authorization=f"Bearer {TOKEN}")[:2] == (200, "step,loss")
    assert content(tmp_path) == before
    assert sorted((tmp_path / "search-out" / "artifacts").rglob("*")) == kept


def test_writable_when_told_so_but_not_for_other_sites(tmp_path: Path, start: Start) -> None:
    port = start(planned(tmp_path), "--writable")
    assert ask(port, "/api/studies/1", "DELETE", Origin="http://elsewhere.example")[0] == 403
    assert studies(port) == ["small"]
    assert ask(port, "/api/studies/1", "DELETE", Origin=f"http://127.0.0.1:{port}")[0] == 204
    assert studies(port) == []


def test_token(tmp_path: Path, start: Start) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    port = start(planned(tmp_path), "--host", "0.0.0.0", "--token-file", str(file))
    assert ask(port, "/healthz")[:2] == (200, "ok")
    for path in ("/", "/api/studies", "/dashboard", "/?token=wrong", "/?token="):
        status, body, headers = ask(port, path)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert TOKEN not in body
    assert ask(port, "/api/studies", Authorization=f"Bearer {TOKEN}")[0] == 200
    status, _, headers = ask(port, f"/dashboard?token={TOKEN}")
    assert (status, headers["location"]) == (303, "/dashboard")
    assert {"HttpOnly", "SameSite=Strict"} <= set(headers["set-cookie"].split("; "))
    assert ask(port, "/api/studies", Cookie=headers["set-cookie"].split(";")[0])[0] == 200
    assert ask(port, "/api/studies", "DELETE", Authorization=f"Bearer {TOKEN}")[0] == 405


def test_waits_for_a_database(tmp_path: Path, start: Start) -> None:
    file = tmp_path / "search.db"
    file.touch()
    port = start(f"sqlite:///{file}")
    status, body, headers = ask(port, "/")
    assert (status, "holds no study yet" in body) == (503, True)
    assert headers["refresh"] == "3"
    planned(tmp_path)
    deadline = time.monotonic() + 20
    while ask(port, "/api/studies")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_wrong_use(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("abc")
    (tmp_path / "search.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        cases = {
            ("--host", "0.0.0.0"): "--host 0.0.0.0 is not loopback",
            ("--token-file", str(tmp_path / "none")): "No such file or directory",
            ("--token-file", str(short)): "a token has at least 16 letters and digits",
            ("--port", port): f"--port {port}: Address already in use",
            ("--storage", "nonsense"): "the storage is not a URL",
            ("--storage", "sqlite:///serch.db"): "sqlite:///serch.db: there is no such file; give --storage",
            ("--allow-host", "http://a.example"): "--allow-host 'http://a.example': give a name or an address alone",
        }
        for arguments, message in cases.items():
            done = program("dashboard", *arguments, cwd=tmp_path)
            assert done.returncode == 2, arguments
            assert message in done.stderr
            assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "serch.db").exists()


def test_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    cases: dict[tuple[int, str, tuple[str, ...]], str] = {
        (0o600, "127.0.0.1", ()): "",
        (0o640, "127.0.0.1", ()): "",
        (0o644, "127.0.0.1", ()): "every user of this machine can read it; protect it with: chmod o= ",
        (0o602, "127.0.0.1", ()): "every user of this machine can read it",
        (0o600, "0.0.0.0", ()): "it answers to localhost only; allow other names with --allow-host NAME",
        (0o600, "::", ("search.example.org",)): "",
    }
    for (mode, host, names), message in cases.items():
        file.chmod(mode)
        caplog.clear()
        warn_of_options(DashboardOptions(token_file=file, host=host, allow_host=names))
        assert (message in caplog.text) if message else caplog.text == "", (mode, host, names)
