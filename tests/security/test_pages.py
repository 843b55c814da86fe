"""A real Chromium at the served dashboard: files of trials cannot act, other sites see nothing, times are right."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")

from playwright.sync_api import Browser, Page
from sample_study import STUDY, sample_plan

from benchmarks.browser import chromium, chromium_path
from benchmarks.served_dashboard import Dashboard, served_dashboard
from search.storage.artifact_store import artifact_id, open_store, put
from search.storage.connect import open_database
from search.storage.planning import plan
from search.storage.queue import TrialQueue

pytestmark = [
    pytest.mark.skipif(chromium_path() is None, reason="no Chromium here: install chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ACT = "fetch('/api/studies/1', {method: 'DELETE'}); document.title = 'acted'; window.acted = true;"
SVG = f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" onload="{ACT}"><script>{ACT}</script></svg>'
FILES = {
    "page.html": f'<title>innocent</title><script>{ACT}</script><img src=x onerror="{ACT}">',
    "image.svg": SVG,
    "page.xhtml": f'<html xmlns="http://www.w3.org/1999/xhtml"><script>{ACT}</script></html>',
    "data.xml": f'<x xmlns:h="http://www.w3.org/1999/xhtml"><h:script>{ACT}</h:script></x>',
    "notes.txt": f"<script>{ACT}</script>",
    "code.js": ACT,
    "picture.png": f"<script>{ACT}</script>",
}
ZONE = "Pacific/Auckland"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Dashboard, dict[str, str]]]:
    """A writable dashboard in another time zone, and the paths of a trial's files by name."""
    folder = tmp_path_factory.mktemp("dashboard")
    url, store = f"sqlite:///{folder / 'search.db'}", open_store(str(folder / "artifacts"))
    with open_database(url, create=True).closing() as database:
        plan(database, [sample_plan()])
        queue = TrialQueue(database)
        [lease] = queue.claim([STUDY], "worker")
        ids = {name: artifact_id("trial", lease.token, name) for name in FILES}
        attrs: dict[str, Any] = {}
        for name, content in FILES.items():
            attrs |= put(store, ids[name], name, content.encode())
        queue.finish(lease, "complete", 1.0, {}, None, attrs)
    with served_dashboard(url, folder, "--writable", "--artifacts", str(folder / "artifacts"), TZ=ZONE) as dashboard:
        yield dashboard, {name: f"{dashboard.address}/artifacts/1/1/{each}" for name, each in ids.items()}


def studies(page: Page, address: str) -> list[str]:
    found = page.request.get(f"{address}/api/studies").json()["study_summaries"]
    return [each["study_name"] for each in found]


def test_files_of_trials_are_saved_and_cannot_act(
    browser: Browser, dashboard: tuple[Dashboard, dict[str, str]]
) -> None:
    served, paths = dashboard
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    page.goto(f"{served.address}/dashboard")
    for name, address in paths.items():
        with page.expect_download() as download:
            page.evaluate("address => { location.href = address }", address)
        assert Path(download.value.path()).read_text() == FILES[name]
        # Nor inside a page of the dashboard's own origin, however it is embedded.
        page.evaluate(
            """async address => {
                const ends = ['img', 'iframe', 'object', 'embed', 'script', 'link'].map(kind => new Promise(end => {
                    const node = document.createElement(kind);
                    node.onload = node.onerror = end;
                    setTimeout(end, 300);
                    if (kind === 'link') { node.rel = 'stylesheet'; node.href = address }
                    else if (kind === 'object') node.data = address;
                    else node.src = address;
                    document.body.append(node);
                }));
                await Promise.all(ends);
            }""",
            address,
        )
        assert page.evaluate("() => [document.title, window.acted]") == ["Optuna Dashboard", None], name
        assert [frame.evaluate("() => window.acted") for frame in page.frames if "artifacts" in frame.url] == [], name
    assert studies(page, served.address) == [STUDY]
    context.close()


def test_even_a_file_that_is_rendered_is_sandboxed(
    browser: Browser, dashboard: tuple[Dashboard, dict[str, str]]
) -> None:
    """Without the type and the disposition, as an old browser or a proxy might have it."""
    served, paths = dashboard
    context = browser.new_context()
    page = context.new_page()

    def reveal(route: Any) -> None:
        answer = route.fetch()
        kept = {name: value for name, value in answer.headers.items() if name != "content-disposition"}
        kind = "image/svg+xml" if "svg" in answer.text() else "text/html"
        route.fulfill(response=answer, headers={**kept, "content-type": kind})

    page.route("**/artifacts/**", reveal)
    for name in ("page.html", "image.svg"):
        page.goto(paths[name])
        assert page.evaluate("() => window.acted") is None
        assert page.evaluate("() => self.origin") == "null"
    assert studies(page, served.address) == [STUDY]
    context.close()


class _OtherSite(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>elsewhere</title>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def other_site() -> Iterator[str]:
    """The address of another site on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _OtherSite) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_pages_of_other_sites_read_frame_and_change_nothing(
    browser: Browser, dashboard: tuple[Dashboard, dict[str, str]], other_site: str
) -> None:
    served, paths = dashboard
    context = browser.new_context()
    page = context.new_page()
    page.goto(other_site)
    fetched = """async ([address, method]) => {
        try { return await (await fetch(address, {method})).text() } catch (error) { return 'refused' }
    }"""
    for address in (f"{served.address}/api/studies", *paths.values()):
        assert page.evaluate(fetched, [address, "GET"]) == "refused", address
    assert page.evaluate(fetched, [f"{served.address}/api/studies/1", "DELETE"]) == "refused"
    for path in ("/dashboard", "/api/studies"):
        page.evaluate(
            """address => new Promise(end => {
                const frame = document.createElement('iframe');
                frame.onload = end;
                frame.src = address;
                document.body.append(frame);
            })""",
            served.address + path,
        )
    assert [frame.url for frame in page.frames[1:]] == ["chrome-error://chromewebdata/"] * 2
    # A name of another site that leads to this machine: the page's own origin is then that name.
    rebound = served.address.replace("127.0.0.1", "rebound.evil.localhost")
    answer = page.goto(f"{rebound}/api/studies")
    assert answer is not None
    assert answer.status == 403
    assert page.evaluate(fetched, ["/api/studies/1", "DELETE"]).startswith("This dashboard is not known as")
    assert studies(page, served.address) == [STUDY]
    context.close()


def test_times_are_those_of_the_visitor(browser: Browser, dashboard: tuple[Dashboard, dict[str, str]]) -> None:
    served, _ = dashboard
    context = browser.new_context(timezone_id="America/New_York", locale="en-US")
    page = context.new_page()
    page.goto(f"{served.address}/dashboard/studies/1/trials?numbers=0")
    shown = page.get_by_text(re.compile(r"GMT-0[45]00")).first
    shown.wait_for(timeout=30_000)
    text = re.sub(r" \(.*\)", "", shown.inner_text())  # Wed Nov 25 2026 15:03:51 GMT-0500
    moment = datetime.strptime(text, "%a %b %d %Y %H:%M:%S GMT%z")
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 600
    context.close()
