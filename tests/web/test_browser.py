"""A real browser opens the dashboard of a finished study: all is shown, nothing is wrong, nobody else is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")

from playwright.sync_api import Page, expect

from benchmarks.browser import NAMES, chromium, chromium_path
from benchmarks.served_dashboard import served_dashboard

pytestmark = [
    pytest.mark.skipif(chromium_path() is None, reason=f"no Chromium here: install one of {', '.join(NAMES)}"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
PATIENCE_MS = 30_000


@dataclass
class Visit:
    """A browser's page at the dashboard, and what went wrong there."""

    page: Page
    address: str
    faults: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Note errors, refusals, and requests to anyone else."""

        def note(wrong: bool, text: str) -> None:
            if wrong:
                self.faults.append(text)

        self.page.on("console", lambda said: note(said.type in ("error", "warning"), said.text))
        self.page.on("pageerror", lambda error: note(True, str(error)))
        self.page.on("response", lambda got: note(got.status >= 400, f"{got.status} {got.url}"))
        self.page.on("request", lambda asked: note(self._is_elsewhere(asked.url), asked.url))

    def _is_elsewhere(self, url: str) -> bool:
        return urlsplit(url).scheme not in ("data", "blob") and not url.startswith(self.address + "/")

    def open(self, path: str) -> Page:
        self.page.goto(self.address + path)
        return self.page


@pytest.fixture(scope="module")
def visit(finished: Any) -> Iterator[Visit]:
    """A visit to the dashboard of the finished study of the fake objective."""
    kept = ("--artifacts", str(finished.folder / "search-out" / "artifacts"))
    with served_dashboard(finished.storage, finished.folder, *kept) as dashboard, chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1500})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        visit = Visit(page, dashboard.address)
        visit.watch()
        yield visit


def test_dashboard(visit: Visit) -> None:
    listed = visit.open("/dashboard")
    expect(listed.get_by_text(re.compile(r"\bsmall\b")).first).to_be_visible()
    expect(listed.get_by_text(re.compile("small-baselines")).first).to_be_visible()

    found = listed.request.get(f"{visit.address}/api/studies").json()["study_summaries"]
    [study] = [each["study_id"] for each in found if each["study_name"] == "small"]
    page = visit.open(f"/dashboard/studies/{study}")
    for heading in ("History", "Hyperparameter Importance", "Timeline", "Intermediate values"):
        expect(page.get_by_role("heading", name=heading).first).to_be_visible()
    for title in ("Learning curves of the best 8 cells", "val_loss by n_embd and block_size", "Parallel coordinates"):
        expect(page.locator(".js-plotly-plot text", has_text=title).first).to_be_visible()
    # Marks, not only headings: bars of importances, squares of heat maps, lines and bands of curves.
    assert page.locator(".js-plotly-plot .bars .point").count() >= 4
    assert page.locator(".js-plotly-plot .heatmaplayer image").count() == 2
    assert page.locator(".js-plotly-plot .scatterlayer .js-line").count() >= 16 + 8
    assert page.locator(".js-plotly-plot .parcats path.path").count() == 8
    assert page.get_by_text("trial #0").count() == 1
    bars = page.locator(".js-plotly-plot", has_text="Hyperparameter Importance").first
    for axis in ("pe_type", "n_embd", "block_size"):
        expect(bars.get_by_text(axis, exact=True)).to_be_visible()

    note = visit.open(f"/dashboard/studies/{study}/note")
    expect(note.locator("h1", has_text="small")).to_be_visible()
    expect(note.locator("td", has_text="complete").first).to_be_visible()
    tables = note.locator("table")
    lengths = [tables.nth(i).locator("tbody tr").count() for i in range(tables.count())]
    assert lengths == [9, 8, 3, 2, 2, 2]  # cells, candidates, comparisons, what the values of three axes cost
    expect(note.get_by_role("heading", name="Verdicts")).to_be_visible()

    trial = visit.open(f"/dashboard/studies/{study}/trials?numbers=3")
    for name in ("record.json", "curve.csv"):
        expect(trial.get_by_text(name, exact=True)).to_be_visible()
    link = trial.locator("a[href*='/artifacts/']").first.get_attribute("href")
    assert link is not None
    content = trial.request.get(visit.address + link).text()
    assert content.startswith(("step,train_loss,val_loss\n0,", '{\n "study": "small"'))
    assert visit.faults == []
