"""`python -m benchmarks.pictures PAGE.html FOLDER`: PNGs of a report page, by a real Chromium.

Writes heatmap.png, the heat maps of the page as the README shows them, and with --views the whole page as it looks on a
desktop and on a phone, light and dark.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser

from benchmarks.browser import chromium, chromium_path

WIDTHS = {"desktop": 1200, "phone": 380}  # CSS pixels
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def picture_heat_maps(browser: Browser, page: Path, file: Path) -> None:
    """The heat maps with their heading and legend, light."""
    view = browser.new_page(viewport={"width": 1100, "height": 900}, color_scheme="light", device_scale_factor=1.5)
    view.goto(page.absolute().as_uri())
    view.locator("#heat-maps").screenshot(path=file)
    view.close()


def picture_views(browser: Browser, page: Path, folder: Path) -> None:
    """The whole page, at each width and in each colour scheme."""
    for (device, width), scheme in itertools.product(WIDTHS.items(), SCHEMES):
        view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        view.goto(page.absolute().as_uri())
        view.screenshot(path=folder / f"page-{device}-{scheme}.png", full_page=True)
        view.close()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, help="made by python -m search.report --format html --output PAGE.html")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--views", action="store_true", help="the whole page too, desktop and phone, light and dark")
    options = parser.parse_args()
    if chromium_path() is None:
        sys.exit("no Chromium on this machine: install one, or run: playwright install chromium")
    if not options.page.is_file():
        sys.exit(
            f"{options.page}: there is no such file; make it with: python -m search.report --output {options.page}"
        )
    options.folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        picture_heat_maps(browser, options.page, options.folder / "heatmap.png")
        if options.views:
            picture_views(browser, options.page, options.folder)
    for file in sorted(options.folder.glob("*.png")):
        print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
