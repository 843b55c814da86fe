"""The page in a real headless Chromium: what is on it, no error on its console, no request beyond the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from curve_studies import NAMES as MEASURED
from curve_studies import measured_study, one_seed_pruned, where_they_decide
from finished_studies import completed, ended_study, half, nothing, pruned
from optuna_studies import make_optuna_studies
from study_files import opened as opened_database
from trained_studies import trained

from benchmarks.browser import chromium, chromium_path
from benchmarks.pictures import picture_heat_maps
from search.reporting.page import as_html
from search.reporting.render import render
from search.reporting.report_data import read_report_data
from search.study.lookup import open_studies

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


SEARCH = """
def objective(params):
    for step in range(5):
        yield step, params["x"] ** 2 + params["y"] + (1e6 if params["y"] > 0.9 and step == 2 else 1 / (1 + step))
"""
SEARCH_HEAD = """
trials = 25
sampler = "random"
[axes]
x = { low = -1.0, high = 1.0 }
y = { low = 0.0, high = 1.0 }
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of five kinds of studies."""
    folder = tmp_path_factory.mktemp("pages")
    texts = {}
    for name, how in (("auto", where_they_decide), ("pruned", one_seed_pruned)):
        (folder / name).mkdir()
        with measured_study(folder / name, how) as database:
            texts[name] = render(database, MEASURED, "html")
    with opened_database(trained(folder, SEARCH, SEARCH_HEAD, "sampled")).closing() as database:
        texts["sampled"] = render(database, ["sampled"], "html")
    url = f"sqlite:///{folder}/optuna.db"
    make_optuna_studies(url)
    for name in ("conditional", "two goals"):
        database, names = open_studies(name, url, 0, baselines=True, of_optuna=True)
        with database.closing():
            texts[name] = render(database, names, "html")
    files = {name: folder / f"{name}.html" for name in texts}
    for name, file in files.items():
        file.write_text(texts[name], encoding="utf-8")
    return files


@pytest.mark.parametrize("name", ["auto", "pruned", "sampled", "conditional", "two goals"])
def test_five_kinds_of_studies(browser: Any, pages: dict[str, Path], name: str) -> None:
    for width, height in ((1280, 800), (390, 844)):
        view, said, asked = opened(browser, pages[name], viewport={"width": width, "height": height})
        assert said == []
        assert [address for address in asked if not address.startswith("data:")] == [pages[name].as_uri()]
        # The three questions are above the fold: what is best, does it hold, what to run next.
        claims = ["#claims li:nth-child(3) .verdict"] if name in ("auto", "pruned") else []
        firsts = ["#best .winner", "#next li", *claims]
        for first in firsts:
            box = view.locator(first).first.bounding_box()
            assert box["y"] + min(box["height"], 20) <= height, first
        for each in view.locator("details > summary").all():
            each.click()
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        assert "nan" not in "".join(view.locator("svg").evaluate_all("all => all.map(e => e.innerHTML)")).lower()
        if width == 1280:  # the table fits
            assert view.locator("#table .scroll").evaluate("e => e.scrollWidth - e.clientWidth") <= 0
            view.set_viewport_size({"width": 718, "height": 1000})  # A4
            view.emulate_media(media="print")
            assert view.evaluate("document.documentElement.scrollWidth") <= 718
        view.close()


def test_the_table_is_sorted_and_filtered(browser: Any, pages: dict[str, Path]) -> None:
    view, _, _ = opened(browser, pages["auto"])
    head = view.locator("#table th", has_text="n_embd")
    head.locator("button").focus()
    view.keyboard.press("Enter")
    at = [cell.inner_text() for cell in view.locator("#table thead th").all()].index(head.inner_text())
    column = view.locator(f"#table tbody tr:visible td:nth-child({at + 1})")
    assert head.get_attribute("aria-sort") == "ascending"
    values = [int(text) for text in column.all_inner_texts() if text]
    assert values == sorted(values)
    view.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column.first.inner_text() == "384"
    assert column.last.inner_text() == ""  # cells without a value are last both ways
    view.locator("#table select[name=n_embd]").select_option("128")
    view.locator("#table input[type=search]").fill("rope")
    assert set(column.all_inner_texts()) == {"128"}
    assert view.locator("#table output").inner_text() == "4 of 38 rows"
    view.close()


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
    assert view.locator("#best .winner").inner_text() == "block_size 16, n_embd 64, pe_type rope"
    assert view.locator("#table tbody tr").count() == 9
    assert view.locator("#table tbody tr").first.inner_text().split()[:5] == ["1", "rope", "64", "16", "2.0213"]
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
    loss = view.locator("#table tbody tr").first.locator("td").nth(4).bounding_box()
    assert loss["x"] + loss["width"] <= width
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
