"""Studies of objectives that a test writes as source text, trained in its own process."""

from __future__ import annotations

from pathlib import Path

from study_files import sqlite

from search.options import PlanningOptions
from search.planning import open_planned
from search.workers.setup import open_worker


def trained(folder: Path, source: str, head: str, name: str = "pareto") -> str:
    """Train an objective, written as source text, in this process; the URL of its database."""
    (folder / f"{name}_objective.py").write_text(source)
    file = folder / f"{name}.toml"
    file.write_text(f'objective = "{name}_objective:objective"\n{head}\n')
    database, _ = open_planned(PlanningOptions(study=str(file), storage=sqlite(folder), out=folder / "out"))
    database.engine.dispose()
    worker = open_worker(str(file), sqlite(folder), "cpu", out=folder / "out")
    try:
        worker.run()
    finally:
        worker.queue.database.engine.dispose()
    return sqlite(folder)
