"""A real headless Chromium, for pictures and for tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# By default Chromium contacts its vendor's servers, for updates for example; here it must load only the page.
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


def chromium_path() -> str | None:
    """The path of the installed Chromium or Chrome, else of Playwright's own; None if there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is not None:
        return found
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser and close it at the end of the context.

    Raises:
        RuntimeError: None is installed.
    """
    path = chromium_path()
    if path is None:
        raise RuntimeError(f"no Chromium: install one of {', '.join(NAMES)}")
    # As root, for example in a container, Chromium does not start with its sandbox.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=[*QUIET, *sandbox, "--disable-gpu", "--disable-quic"]
        )
        try:
            yield browser
        finally:
            browser.close()
