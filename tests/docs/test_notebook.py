"""The notebook of the docs runs from its first cell to its last, in a real kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("pandas")

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def shown(cell: Any) -> list[dict[str, str]]:
    """What a cell displays, by type."""
    return [output.data for output in cell.outputs if output.output_type in ("display_data", "execute_result")]


def test_every_cell_runs(tmp_path: Path) -> None:
    read = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.outputs for cell in read.cells if cell.cell_type == "code"), "the repository has no outputs"
    client = nbclient.NotebookClient(read, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    _, _, run, best, table, report, saved = [cell for cell in read.cells if cell.cell_type == "code"]
    progress, result = shown(run)
    assert "12/12 done; 12 complete" in progress["text/plain"], "one display, updated to its last state"
    assert result["text/plain"].startswith("StudyResult(wave: 12 complete; best ")
    assert "<svg" in result["text/html"]
    assert not [output for output in run.outputs if output.output_type == "stream" and "[1/12]" in output.text]
    assert shown(best)[0]["text/plain"].startswith("Best(params={'x': ")
    assert "<td>complete</td>" in shown(table)[0]["text/html"]
    assert report.outputs[0].text.startswith("# wave")
    assert "wave.html" in shown(saved)[0]["text/plain"]
    assert (tmp_path / "wave.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
