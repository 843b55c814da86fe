"""How long each contender of `benchmarks.compare` takes until all claims of the study are answered."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks.compare.service_run import STUDIES, database_of, run_service
from benchmarks.compare.tables import Contender, minutes
from benchmarks.compare.task import Task
from benchmarks.compare.turns import ROOT
from search.statistics.answers import Verdict
from search.storage.connect import open_database
from search.storage.queries import trial_summaries
from search.storage.values import canonical
from search.study.cells import without_seed

HEADER = """## Until every claim has an answer

`--seeds auto` gives further seeds to open claims, and to the question which cell is the best, until each is decided or
needs more than the budget. Of {claims} claims it decided {decided} ({answers});
of the others it says how many trials they would need. It trained {trials} trials, {fewest} to {most} seeds a cell.
Without such a rule a grid gives every cell the same number of seeds: {least} make as many trials, of which fewer are of
the cells that decide; with {most} every cell has as many as the one with most seeds had here. A pruner that stops cells
of a claim leaves it without an answer.

| way | as many trials | as sharp for every cell | figures |
| --- | ---: | ---: | --- |
"""
DECIDED = {Verdict.YES, Verdict.ONLY_WHERE, Verdict.OPPOSITE, Verdict.NO_CLEAR_DIFFERENCE}


def run_until_answered(task: Task, folder: Path) -> dict[str, Any]:
    """Run the study with this service and seeds where the claims need them.

    Returns:
        What `run_service` returns, and answers, the number of claims by verdict; fewest and most, seeds of a cell.
    """
    figures = run_service(task, folder, "--seeds", "auto")
    url = database_of(folder)
    command = [sys.executable, "-m", "search.report", "--study", STUDIES[0], "--storage", url, "--format", "json"]
    report = json.loads(subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE).stdout)
    with open_database(url, create=False, wait_s=10).closing() as database:
        seeds = Counter(canonical(without_seed(each.cell)) for each in trial_summaries(database, STUDIES))
    answers = Counter(each["verdict"] for each in report["verdicts"]["answers"])
    return {**figures, "answers": dict(answers), "fewest": min(seeds.values()), "most": max(seeds.values())}


def answered_lines(contenders: Sequence[Contender], cells: int, figures: Mapping[str, Any]) -> list[str]:
    """The table: dashes for those that prune, and for the others their time for one seed times the seeds.

    Args:
        contenders: Their cost with one seed of each cell.
        cells: How many cells there are.
        figures: What `run_until_answered` returned.
    """
    verdicts = {Verdict(word): count for word, count in figures["answers"].items()}
    numbers = {
        "claims": sum(verdicts.values()),
        "decided": sum(count for verdict, count in verdicts.items() if verdict in DECIDED),
        "answers": ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())),
        "least": (least := ceil(figures["trials"] / cells)),
    }
    lines = HEADER.format(**{**figures, **numbers}).splitlines()
    for each in contenders:
        if each.prunes:
            lines.append(f"| {each.name} | – | – | prunes cells that claims compare |")
        elif each.wall_s is not None:
            times = f"{minutes(least * each.wall_s)} | {minutes(figures['most'] * each.wall_s)}"
            lines.append(f"| {each.name} | {times} | computed: {least} and {figures['most']} times the time above |")
    took = minutes(figures["wall_s"])
    return [*lines, f"| this service, `--seeds auto` | {took} | {took} | measured |"]
