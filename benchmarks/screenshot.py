"""Takes a picture of a study in the dashboard: `python -m benchmarks.screenshot --help`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.browser import chromium
from benchmarks.served_dashboard import served_dashboard

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


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
    with served_dashboard(storage, Path(), "--artifacts", artifacts) as dashboard, chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1750})
        found = page.request.get(f"{dashboard.address}/api/studies").json()["study_summaries"]
        [study_id] = [each["study_id"] for each in found if each["study_name"] == study]
        page.goto(f"{dashboard.address}/dashboard/studies/{study_id}")
        page.get_by_text("Hyperparameter Importance").first.wait_for()
        page.wait_for_timeout(4000)  # plots are drawn one after another, without a signal after the last
        output.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(output))
    print(f"{output}: {output.stat().st_size / 1000:.0f} kB", file=sys.stderr)


if __name__ == "__main__":
    app()
