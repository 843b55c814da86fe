"""`python -m benchmarks.scale.dashboard`: what the dashboard takes for studies of some sizes, beside optuna-dashboard.

Each size is a new study, all of whose trials have ended. Both dashboards are processes, asked over HTTP in turn.
"""

from __future__ import annotations

import gzip
import http.client
import multiprocessing
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from benchmarks.browser import chromium
from benchmarks.scale.studies import KINDS, end_trials, plan_study, write_study
from benchmarks.served_dashboard import Dashboard, served_dashboard
from search.command_line import new_program
from search.errors import user_errors
from search.option_fields import Option, Options
from search.storage.connect import open_database
from search.storage.optuna_tables import study_id

CLIENTS = 8
LOAD_S = 10.0
PATIENCE_S = 900.0
# A copy is looked at again after this time at the latest.
MAX_AGE_S = 11.0
_STOCK = "import sys, optuna_dashboard as d; d.run_server(sys.argv[1], port=int(sys.argv[2]))"
# The last things that the page of a study draws.
_DRAWN = ("#graph-timeline .main-svg", ".js-plotly-plot .scatterlayer .points path")
_CURVES = "#graph-intermediate-values .scatterlayer .trace"


@dataclass(frozen=True, kw_only=True)
class DashboardScaleOptions(Options):
    """The options of this program."""

    trials: Annotated[
        tuple[str, ...], Option("A number of trials; may be repeated; else 1,000 and 10,000.", "N", convert=tuple)
    ] = ("1000", "10000")
    kind: Annotated[str, Option(f"Kind of study: {', '.join(KINDS)}.", "NAME")] = "seeds"
    storage: Annotated[str | None, Option("A new database; else a SQLite file for each size.", "URL")] = None
    stock_most: Annotated[int, Option("optuna-dashboard is not asked for larger studies.", "N")] = 10_000
    browser: Annotated[bool, Option("Also load the pages in Chromium.")] = False


@dataclass(frozen=True)
class Answer:
    """One response: how long it took, by the clock and by the dashboard's processor time, and its size."""

    seconds: float
    cpu_s: float
    sent_mb: float
    text_mb: float

    def __str__(self) -> str:
        size = f"{self.sent_mb:.2f} MB sent, {self.text_mb:.1f} MB of text"
        return f"{self.seconds:.2f} s ({self.cpu_s:.2f} s of CPU, {size})"


def measure(options: DashboardScaleOptions) -> None:
    """Make studies, and print what dashboards take for them."""
    with user_errors():
        for trials in map(int, options.trials):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                url = options.storage or f"sqlite:///{folder}/search.db"
                number, study = _make_study(options.kind, trials, folder, url)
                path = f"/api/studies/{number}"
                print(f"\n## {trials:,} trials ({KINDS[options.kind].title}, {study})\n", flush=True)
                with served_dashboard(url, folder) as dashboard:
                    _measure_one("lm-search", dashboard, path)
                    if options.browser:
                        _draw("lm-search", dashboard, number)
                with served_dashboard(url, folder) as dashboard:
                    _measure_health(dashboard, path)
                if trials <= options.stock_most:
                    with _stock(url, folder) as dashboard:
                        _measure_one("optuna-dashboard", dashboard, path)
                        if options.browser:
                            _draw("optuna-dashboard", dashboard, number)


def _make_study(kind: str, trials: int, folder: Path, url: str) -> tuple[int, str]:
    with open_database(url, create=True).closing() as database:
        study = plan_study(database, write_study(KINDS[kind], trials, folder), url)
        end_trials(database, study.name)
        found = database.read(lambda connection: study_id(connection, study.name))
    assert found is not None
    return found, study.name


@contextmanager
def _stock(url: str, folder: Path) -> Iterator[Dashboard]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", _STOCK, url.replace("postgresql://", "postgresql+psycopg://"), str(port)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        dashboard = Dashboard(port, process.pid)
        for _ in range(600):
            try:
                ask(dashboard, "/api/meta")
                break
            except OSError:
                time.sleep(0.1)
        yield dashboard
    finally:
        process.terminate()
        process.wait()


def ask(dashboard: Dashboard, path: str) -> Answer:
    """Ask once, as a browser does."""
    before, began = _cpu_s(dashboard), time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    took = time.perf_counter() - began
    assert response.status == 200, (path, response.status, body[:200])
    text = gzip.decompress(body) if response.getheader("Content-Encoding") == "gzip" else body
    return Answer(took, _cpu_s(dashboard) - before, len(body) / 1e6, len(text) / 1e6)


def _cpu_s(dashboard: Dashboard) -> float:
    fields = Path(f"/proc/{dashboard.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _measure_one(name: str, dashboard: Dashboard, path: str) -> None:
    ask(dashboard, "/api/meta")
    empty_mb = dashboard.used_bytes() / 1e6
    rows = [("study list", ask(dashboard, "/api/studies")), ("study page, cold", ask(dashboard, path))]
    rows.append(("study page, warm", min((ask(dashboard, path) for _ in range(3)), key=lambda each: each.seconds)))
    time.sleep(MAX_AGE_S)
    rows.append(("the same after 11 s", ask(dashboard, path)))
    rows.append(("importances", ask(dashboard, f"{path}/param_importances")))
    for what, answer in rows:
        print(f"- {name}, {what}: {answer}", flush=True)
    print(f"- {name}, memory: {dashboard.used_bytes() / 1e6 - empty_mb:.0f} MB more than before", flush=True)


def _measure_health(dashboard: Dashboard, path: str) -> None:
    """How long /healthz takes while clients load the page of a dashboard that has just started."""
    ask(dashboard, "/api/studies")
    idle = _health_s(dashboard, 2.0)
    load = multiprocessing.get_context("spawn").Process(target=_load, args=(dashboard, path))
    load.start()
    try:
        busy = _health_s(dashboard, LOAD_S)
    finally:
        load.terminate()
        load.join()
    for what, taken in (("idle", idle), (f"with {CLIENTS} clients", busy)):
        late = statistics.quantiles(taken, n=100)[-1]
        shown = [f"{1e3 * each:.1f} ms" for each in (statistics.median(taken), late, max(taken))]
        print(f"- lm-search, health, {what}: median {shown[0]}, 99 % within {shown[1]}, longest {shown[2]}", flush=True)


def _health_s(dashboard: Dashboard, for_s: float) -> Sequence[float]:
    until, taken = time.monotonic() + for_s, list[float]()
    while time.monotonic() < until:
        taken.append(ask(dashboard, "/healthz").seconds)
        time.sleep(0.02)
    return taken


def _load(dashboard: Dashboard, path: str) -> None:
    def client() -> None:
        while True:
            ask(dashboard, path)

    threads = [threading.Thread(target=client, daemon=True) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    threads[0].join()


def _draw(name: str, dashboard: Dashboard, number: int) -> None:
    """Load the page until its plots are there and the browser is idle, twice."""
    with chromium() as browser:
        for what in ("first", "again"):
            page = browser.new_page(viewport={"width": 1280, "height": 1500})
            page.set_default_timeout(PATIENCE_S * 1e3)
            began = time.perf_counter()
            page.goto(f"{dashboard.address}/dashboard/studies/{number}")
            for selector in (*_DRAWN, _CURVES):
                page.wait_for_selector(selector, state="attached")
            page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")
            took = time.perf_counter() - began
            curves = page.locator(_CURVES).count()
            heap = page.evaluate("() => performance.memory.usedJSHeapSize") / 1e6
            drawn = f"{took:.1f} s, {curves} curves, {heap:.0f} MB of JavaScript"
            print(f"- {name}, page in Chromium, {what}: {drawn}", flush=True)
            page.close()


EXAMPLES = [("two sizes, with a browser", "--trials 1000 --trials 10000 --browser")]
app = new_program(measure, DashboardScaleOptions, EXAMPLES)

if __name__ == "__main__":
    app()
