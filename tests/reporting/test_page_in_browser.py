"""The page in a real headless Chromium: what is on it, no error on its console, no request beyond the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from finished_studies import completed, ended_study, half, nothing, pruned

from benchmarks.browser import chromium, chromium_path
from benchmarks.pictures import picture_heat_maps
from search.reporting.page import as_html
from search.reporting.report_data import read_report_data

NAMES = ["small", "small-baselines"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium for all tests of this file."""
    if chromium_path() is None:
        pytest.skip("no Chromium on this machine: install one, or run: playwright install chromium")
    with chromium() as browser:
        yield browser


def write_page(folder: Path, end: Any) -> Path:
    with ended_study(folder, end) as database:
        page = as_html(read_report_data(database, NAMES, with_trials=True))
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    return file


def opened(browser: Any, file: Path, **how: Any) -> tuple[Any, list[str], list[str]]:
    """The page, what its console said, and every address that it asked for."""
    view = browser.new_page(**how)
    said: list[str] = []
    asked: list[str] = []
    view.on("console", lambda message: said.append(message.text))
    view.on("pageerror", lambda error: said.append(str(error)))
    view.on("request", lambda request: asked.append(request.url))
    view.goto(file.as_uri())
    return view, said, asked


@pytest.mark.parametrize("end", [completed, half, pruned, nothing])
def test_quiet_and_alone(browser: Any, tmp_path: Path, end: Any) -> None:
    file = write_page(tmp_path, end)
    view, said, asked = opened(browser, file)
    assert said == []
    assert [address for address in asked if not address.startswith("data:")] == [file.as_uri()]
    assert view.title() == "small – report"
    view.close()


def test_what_is_on_the_page(browser: Any, tmp_path: Path) -> None:
    view, _, _ = opened(browser, write_page(tmp_path, completed))
    assert view.locator("h1").inner_text() == "small"
    assert "The lowest mean validation loss" in view.locator("#summary").inner_text()
    assert view.locator("#table tbody tr").count() == 9
    assert view.locator("#table tbody tr").first.inner_text().split()[:5] == ["1", "complete", "rope", "16", "64"]
    assert view.locator("#heat-maps figure h3").all_inner_texts() == ["pe_type randn", "pe_type rope"]
    assert view.locator("#heat-maps figure g").count() == 8
    assert view.locator("#curves polyline").count() >= 6
    assert view.locator("#positions polyline").count() == 3
    assert view.locator("#timeline path.bar.complete").count() == 2  # the bars and the legend
    assert 'Morrow <b>& "sun"</b>' in view.locator("#samples pre").first.inner_text()
    # Numbers on tiles are as readable as the page promises: the browser applies the colour that was chosen.
    fills = view.locator("#heat-maps figure g text").evaluate_all("all => all.map(e => getComputedStyle(e).fill)")
    assert set(fills) <= {"rgb(0, 0, 0)", "rgb(255, 255, 255)"}
    view.locator("#record summary").click()
    assert "[grid]" in view.locator("#record details pre").inner_text()
    view.close()


def test_dark_and_light(browser: Any, tmp_path: Path) -> None:
    file = write_page(tmp_path, completed)
    papers = {}
    for scheme in ("light", "dark"):
        view, _, _ = opened(browser, file, color_scheme=scheme)
        papers[scheme] = view.evaluate("getComputedStyle(document.body).backgroundColor")
        view.close()
    assert papers == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 28)"}


@pytest.mark.parametrize("width", [340, 768, 1400])
def test_fits_its_window(browser: Any, tmp_path: Path, width: int) -> None:
    view, _, _ = opened(browser, write_page(tmp_path, completed), viewport={"width": width, "height": 800})
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    state = view.locator("#table tbody td", has_text="complete").first.bounding_box()
    assert state["x"] + state["width"] <= width
    drawn = view.locator("#curves figure svg").first.bounding_box()
    assert drawn["width"] > min(width, 480) * 0.8
    view.close()


def test_prints(browser: Any, tmp_path: Path) -> None:
    view, _, _ = opened(browser, write_page(tmp_path, completed))
    assert view.pdf().startswith(b"%PDF")
    view.close()


def test_picture_of_the_heat_maps(browser: Any, tmp_path: Path) -> None:
    picture_heat_maps(browser, write_page(tmp_path, completed), tmp_path / "heatmap.png")
    data = (tmp_path / "heatmap.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < 300_000
