"""How long each contender of `benchmarks.compare` takes until all claims of the study are answered."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.compare.service_run import ROOT, STUDIES, database_of, run_service
from benchmarks.compare.tables import Contender, minutes
from benchmarks.compare.task import Task
from search.storage.connect import open_database
from search.storage.queries import trial_summaries
from search.storage.values import canonical

HEADER = """## Until all claims are answered

`--seeds auto` gives further seeds to the claims that are open, until each has an answer or needs more than the budget:
{answers}. It trained {trials} trials, {fewest} to {most} seeds a cell. A grid without
such a rule does not know which cells need them: for answers as sharp it gives each cell the most of these, {most} seeds
(its time for one seed, times {most}). A pruner that stops cells of a claim leaves the claim without an answer.

| way | time until all claims are answered | speed-up with `--seeds auto` | figures |
| --- | ---: | ---: | --- |
"""


def run_until_answered(task: Task, folder: Path) -> dict[str, Any]:
    """Run the study with this service and seeds where the claims need them.

    Returns:
        What `run_service` returns, and answers, the number of claims by answer; fewest and most, seeds of a cell.
    """
    figures = run_service(task, folder, "--seeds", "auto")
    url = database_of(folder)
    command = [sys.executable, "-m", "search.report", "--study", STUDIES[0], "--storage", url, "--format", "json"]
    report = json.loads(subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE).stdout)
    with open_database(url, create=False, wait_s=10).closing() as database:
        cells = [{**each.cell, "seed": None} for each in trial_summaries(database, STUDIES)]
    seeds = Counter(canonical(cell) for cell in cells)
    answers = Counter(each["verdict"] for each in report["claims"])
    return {**figures, "answers": dict(answers), "fewest": min(seeds.values()), "most": max(seeds.values())}


def answered_lines(contenders: Sequence[Contender], figures: Mapping[str, Any]) -> list[str]:
    """The table, of the contenders whose trials can answer all claims.

    Args:
        contenders: Their cost with one seed of each cell.
        figures: What `run_until_answered` returned.
    """
    answers = ", ".join(f"{count} {answer}" for answer, count in sorted(figures["answers"].items()))
    lines = HEADER.format(**{**figures, "answers": answers}).splitlines()
    ours_s, seeds = figures["wall_s"], figures["most"]
    for each in contenders:
        if each.prunes:
            lines.append(f"| {each.name} | – | – | prunes cells that claims compare |")
        elif each.wall_s is not None:
            took_s = seeds * each.wall_s
            lines.append(f"| {each.name} | {minutes(took_s)} | {took_s / ours_s:.1f} | {seeds} seeds a cell |")
    return [*lines, f"| this service, `--seeds auto` | {minutes(ours_s)} | 1.0 | measured |"]
