"""The HTML page as text: self-contained, escaped, complete, and usable for large studies."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from finished_studies import CORPUS, GRID, End, completed, ended_study, large_study, nothing

from search.reporting.page import as_html
from search.reporting.report_data import read_report_data
from search.statistics.answers import Verdict
from search.statistics.claim_answers import Answer
from search.statistics.comparison import COMPARED, Comparison, Setting
from search.statistics.verdicts import Candidate, Verdicts

NAMES = ["small", "small-baselines"]
VOID = {"meta", "link", "br", "img", "hr", "input"}
HOSTILE = '</title><script>alert(1)</script><img src=x onerror="alert(2)">\'"&amp;'


class Outline(HTMLParser):
    """Tags and visible text of a page; complains about a tag that is closed wrongly."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.headings: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def comparison(**changes: Any) -> Comparison:
    found = Comparison(
        factor="pe_type",
        better="rope",
        worse="randn",
        settings=tuple(Setting({"n_embd": at}, COMPARED, 0.125 if at else -0.1, -0.2, 0.2, (3, 3)) for at in range(4)),
        mean=0.125,
        median=0.12,
        low=0.1,
        high=0.15,
        p=0.002,
    )
    return replace(found, **changes)


def test_page_of_a_finished_study(tmp_path: Path) -> None:
    with ended_study(tmp_path, completed) as database:
        page = as_html(read_report_data(database, NAMES, with_trials=True))
    outline = Outline(page)
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings[-9:] == [
        "Validation loss over the grid",
        "All cells",
        "All comparisons",
        "Learning curves",
        "Loss by position",
        "When the trials ran",
        "What it cost",
        "What the models write",
        "To run it again",
    ]
    assert "27 trials trained 9 variants (cells)" in outline.text
    assert outline.text.index("Which is best?") < outline.text.index("What to run next?")
    assert "block_size 16, n_embd 64, pe_type rope" in outline.text
    assert "Published losses that another seed could have: 1 of 1." in outline.text
    assert 'Morrow <b>& "sun"</b>' in outline.text
    assert "python -m search.run --study small.toml --corpus text" in outline.text
    assert page.count('<polyline class="line') >= 6
    assert len(page) < 200_000


def test_nothing_is_fetched(tmp_path: Path) -> None:
    with ended_study(tmp_path, completed) as database:
        page = as_html(read_report_data(database, NAMES, with_trials=True))
    outline = Outline(page)
    assert not {"img", "iframe", "object", "form"} & {tag for tag, _ in outline.tags}
    for _, attrs in outline.tags:
        assert not {"src", "srcset", "xlink:href"} & set(attrs)
        assert (attrs.get("href") or "data:").startswith("data:")
    assert not re.search(r"https?://|url\(|@import", page)
    assert "default-src 'none'" in page
    # The page allows the one script that it has.
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_what_an_author_wrote_is_text(tmp_path: Path) -> None:
    grid = f"note = [{json.dumps(HOSTILE)}, 'plain']\nn_embd = [1, 2]"
    head = f"description = {json.dumps(HOSTILE)}\nobjective = 'fake_objective:start'\n"
    text = f"{head}[grid]\nblock_size = [8]\n{grid}\n"
    with ended_study(tmp_path, completed, study=text) as database:
        page = as_html(read_report_data(database, ["small"], with_trials=True))
    outline = Outline(page)
    assert HOSTILE in outline.text
    assert "img" not in {tag for tag, _ in outline.tags}
    assert page.count("<script") == 1
    assert all(not name.startswith("on") for _, attrs in outline.tags for name in attrs)


CLAIMS = """
[[claims]]
text = "rope is better"
factor = "pe_type"
order = ["rope", "randn"]
[[claims]]
text = "wide"
factor = "n_embd"
order = [128, 64]
[[claims]]
text = "long"
factor = "block_size"
order = [16, 8]
"""


@pytest.mark.parametrize("top", [None, 3])
def test_verdicts(tmp_path: Path, top: int | None) -> None:
    best = {"block_size": 16, "n_embd": 64, "pe_type": "rope"}
    candidates = (Candidate(best, 0.75, 0.0123), Candidate({**best, "block_size": 8}, 0.25, 0.0456))
    unclear = comparison(factor="n_embd", better=64, worse=HOSTILE, low=None, high=None, p=None)
    answers = [
        Answer("pe_type: rope < randn", Verdict.YES, "everywhere", "In all 4 cells.", (comparison(),)),
        Answer("wide", Verdict.ONLY_WHERE, HOSTILE, "", (unclear,)),
        Answer("long", Verdict.OPPOSITE, "on average", "", (comparison(factor="block_size", better=8, worse=16),)),
    ]
    listed = [
        Answer("", Verdict.YES, "on average", "rope is better.", (comparison(),)),
        Answer("", Verdict.CANNOT_TELL, "", "", (unclear,)),
    ]
    said = Verdicts(tuple(listed), tuple(answers), best, candidates, (), ("Pruned cells are left out.",))
    with ended_study(tmp_path, completed, study=f"{GRID}\n{CLAIMS}") as database:
        report_data = replace(read_report_data(database, NAMES, with_trials=True), verdicts=said)
    page = as_html(report_data, top)
    outline = Outline(page)
    for expected in (
        "pe_type: rope < randn",
        "rope has a lower validation loss than randn, by 0.125 nats per character on average over 4 settings, and in "
        "each of them beyond chance.",
        "In all 4 cells.",
        "All answers hold fixed: ",
        f"better beyond chance only where {HOSTILE}",
        "The other way round: 8 has a lower",
        "Best with a probability of 75 %. 2 cells may be the best (95 %).",
        "Expected regret: 0.012 nats",
        "75 %0.0123",
        "25 %0.0456",
        "Pruned cells are left out.",
        "+0.1000 to +0.1500",
        "3 of 4",
        HOSTILE,
        "mean of these settings: 0.125 [0.1, 0.15]",
    ):
        assert expected in outline.text
    verdicts = [attrs["class"] for _, attrs in outline.tags if str(attrs.get("class")).startswith("verdict")]
    assert verdicts == [f"verdict {word}" for word in ("yes", "only_where", "opposite")]
    assert re.findall(r'<span class="verdict [a-z_]+">(.*?)</span>', page) == [
        "yes, everywhere",
        "only where",
        "no, the opposite, on average",
    ]


def test_real_verdicts_and_records(tmp_path: Path) -> None:
    claims = '[[claims]]\nfactor = "pe_type"\norder = ["rope", "randn"]\n'
    with ended_study(tmp_path, completed, study=f"{GRID}\n{claims}") as database:
        report_data = read_report_data(database, NAMES, with_trials=True)
    assert report_data.verdicts is not None
    outline = Outline(as_html(report_data))
    assert report_data.verdicts.answers[0].claim in outline.text
    assert report_data.verdicts.answers[0].sentence in outline.text
    assert len(report_data.verdicts.comparisons) == 3
    assert "This study has no record of versions and machines" in outline.text
    assert "2.13.0" in Outline(as_html(replace(report_data, records=[{"torch": "2.13.0"}]))).text
    assert "[[claims]]" in outline.text


def test_study_without_axes(tmp_path: Path) -> None:
    text = "objective = 'fake_objective:start'\n[grid]\nblock_size = [8]\n"
    with ended_study(tmp_path, completed, study=text) as database:
        outline = Outline(as_html(read_report_data(database, ["small"], with_trials=True)))
    assert "over the grid" not in outline.text
    assert "3 trials trained 1 variant (cell) of a small language model" in outline.text


def test_database_without_a_bigram_baseline(tmp_path: Path) -> None:
    with ended_study(tmp_path, completed) as database:
        with database.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM study_user_attributes WHERE key = 'bigram_baseline'")
        outline = Outline(as_html(read_report_data(database, NAMES, with_trials=True)))
    assert "Bigram baseline: not recorded for this study." in outline.text


@pytest.mark.parametrize("end", [nothing])
def test_page_of_nothing(end: Any, tmp_path: Path) -> None:
    with ended_study(tmp_path, end, study=GRID, corpus=CORPUS) as database:
        outline = Outline(as_html(read_report_data(database, NAMES, with_trials=True)))
    assert outline.headings == ["Which is best?", "What to run next?", "All cells", "To run it again"]
    assert "27 trials have not ended yet: finish the study." in outline.text
    assert "None of the 27 trials has ended yet, so there is nothing to rank." in outline.text


def test_what_an_objective_does_not_record_is_left_out(tmp_path: Path) -> None:
    with ended_study(tmp_path, completed) as database:
        whole = Outline(as_html(read_report_data(database, NAMES, with_trials=True)))
        with database.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM trial_user_attributes")
            connection.exec_driver_sql("UPDATE search_runs SET train_loss = NULL")
        outline = Outline(as_html(read_report_data(database, NAMES, with_trials=True)))
    assert set(whole.headings) - set(outline.headings) == {
        "Loss by position",
        "What it cost",
        "What the models write",
    }
    columns, left = ({attrs.get("data-name") for tag, attrs in each.tags if tag == "th"} for each in (whole, outline))
    assert columns - left == {"seconds", "train_loss"}
    said = "The same in all rows: parameters 7, tokens 640"
    assert (said in whole.text, "parameters" in outline.text) == (True, False)


def test_ten_thousand_trials(tmp_path: Path) -> None:
    with large_study(tmp_path) as database:
        begun = time.process_time()
        page = as_html(read_report_data(database, ["small"], with_trials=True))
        seconds = time.process_time() - begun  # other tests run beside this one
    outline = Outline(page)
    assert "10\u202f000 trials trained 2\u202f000 variants" in outline.text
    assert "1\u202f800 more cells are left out" in outline.text
    assert "Only the first 16 of 25 values of n_embd are shown." in outline.text
    assert len(page.encode()) < 3_000_000
    assert seconds < 10


def test_excluded_and_enqueued_cells_are_said(tmp_path: Path) -> None:
    study = (
        'objective = "fake_objective:start"\nexclude = [{ block_size = 4, n_embd = 1 }]\n'
        "enqueue = [{ block_size = 3, n_embd = 2 }, { block_size = 2, n_embd = 1 }]\n"
        "[grid]\nblock_size = [2, 4]\nn_embd = [1, 2]\n"
    )
    end = End("complete", {1: 2.5})
    with ended_study(tmp_path, lambda cell: end, seeds=1, study=study) as database:
        text = as_html(read_report_data(database, ["small"], with_trials=True))
    assert "trained 4 variants (cells)" in text
    assert "2 values of block_size, 2 values of n_embd except the excluded combinations, and 1 enqueued cell" in text
    assert "A cell that the study excludes has no value." in text
    tiles = re.findall(r"<title>all cells, n_embd (\d), block_size (\d): ([^<]*)</title>", text)
    blank = [("1", "3"), ("1", "4")]
    expected = {(n, size) for n in "12" for size in "234"}
    assert {tile[:2] for tile in tiles} == expected
    assert sorted(tile[:2] for tile in tiles if tile[2] == "no final loss") == blank
