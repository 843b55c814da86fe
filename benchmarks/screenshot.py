"""Takes a picture of a study in the dashboard: `python -m benchmarks.screenshot --help`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.browser import chromium

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@contextmanager
def served(storage: str, artifacts: str) -> Iterator[str]:
    """A dashboard on a free port; its address."""
    command = [sys.executable, "-m", "search.dashboard", "--storage", storage, "--artifacts", artifacts, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://[\d.]+:\d+", line)
        if found is None:
            raise RuntimeError(line)
        yield found[0]
    finally:
        process.terminate()
        process.communicate()


@app.command()
def picture(
    storage: Annotated[str, typer.Option(metavar="URL")] = "sqlite:///search.db",
    study: Annotated[str, typer.Option(metavar="NAME")] = "bigram",
    artifacts: Annotated[str, typer.Option(metavar="DIR")] = "search-out/artifacts",
    output: Annotated[Path, typer.Option(metavar="FILE.png")] = Path("docs/images/dashboard.png"),
) -> None:
    """Publish a study and write a picture of its page in the dashboard."""
    from search.study.lookup import open_studies
    from search.web.dashboard_publisher import publish

    database, names = open_studies(study, storage, 0, baselines=True)
    with database.closing():
        publish(database, names)
    with served(storage, artifacts) as address, chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1750})
        found = page.request.get(f"{address}/api/studies").json()["study_summaries"]
        [study_id] = [each["study_id"] for each in found if each["study_name"] == study]
        page.goto(f"{address}/dashboard/studies/{study_id}")
        page.get_by_text("Hyperparameter Importance").first.wait_for()
        page.wait_for_timeout(4000)  # plots are drawn one after another, without a signal after the last
        output.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(output))
    print(f"{output}: {output.stat().st_size / 1000:.0f} kB", file=sys.stderr)


if __name__ == "__main__":
    app()
