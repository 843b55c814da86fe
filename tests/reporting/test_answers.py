"""The answers of a report: plain sentences, how sure the best is, what to run next; the same in every format."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from curve_studies import NAMES, everything, measured_study, one_seed_pruned, where_they_decide
from finished_studies import ended_study, half, mixed, nothing

from search.reporting.answers_text import best_line, short_answers
from search.reporting.forest import MOST_SETTINGS, forest_plot
from search.reporting.importance import importances
from search.reporting.next_steps import next_steps, study_argument
from search.reporting.notebook import result_as_html
from search.reporting.plain_answers import Terms, percent, plain_answer
from search.reporting.render import render
from search.reporting.report_data import ReportData, read_report_data
from search.reporting.seed_strips import MOST_CELLS, seed_strips
from search.statistics.answers import Verdict
from search.statistics.claim_answers import Answer
from search.statistics.comparison import COMPARED, PRUNED, UNFINISHED, WORSE_DIVERGED, Comparison, Setting
from search.statistics.modes import Modes
from search.statistics.ranking import Row
from search.study.claims import Claim
from search.study.definition import load_definition
from search.study.distributions import axis_distributions
from search.study.metrics import Metric
from search.study.planner import Study, study_plans
from search.study.stored import parse_definition, planned_study
from search.study.study_file import builtin_studies

TERMS = Terms(Metric(), {}, "")


def comparison(n: int = 4, **changes: Any) -> Comparison:
    settings = tuple(Setting({"n_embd": at}, COMPARED, 0.1, 0.05, 0.15, (3, 3)) for at in range(n))
    facts: dict[str, Any] = {"factor": "pe_type", "better": "rope", "worse": "sinpe", "settings": settings}
    return Comparison(**{**facts, "mean": 0.1, "median": 0.1, "low": 0.05, "high": 0.15, **changes})


@pytest.mark.parametrize(
    ("order", "verdict", "detail", "expected"),
    [
        (
            "rope sinpe",
            Verdict.YES,
            "everywhere",
            "rope has a lower validation loss than sinpe, by 0.100 on average over",
        ),
        ("rope sinpe", Verdict.YES, "on average", "more than chance explains, and in 4 of them."),
        ("sinpe rope", Verdict.OPPOSITE, "everywhere", "The other way round: rope has a lower"),
        (
            "rope sinpe",
            Verdict.ONLY_WHERE,
            "n_embd is 0",
            "rope is better beyond chance only where n_embd is 0; in the o",
        ),
        (
            "sinpe rope",
            Verdict.ONLY_WHERE,
            "n_embd is 0",
            "sinpe is better beyond chance only where n_embd is 0; in 4 ",
        ),
        (
            "rope sinpe",
            Verdict.NO_CLEAR_DIFFERENCE,
            "",
            "rope and sinpe differ by less than 0.2, which does not matter",
        ),
        ("rope sinpe", Verdict.CANNOT_TELL, "", "over 4 settings, but chance can explain that."),
        ("rope sinpe", Verdict.CANNOT_TELL, "one seed a cell", "but with one seed a cell that may be chance."),
        (
            "rope sinpe",
            Verdict.UNDECIDABLE,
            "",
            "chance can explain that, and the budget does not suffice to decide it.",
        ),
        (
            "rope sinpe",
            Verdict.NOT_ANSWERABLE,
            "pruned: …",
            "The pruner stopped trials that this needs: 4 of 4 settings",
        ),
    ],
)
def test_each_verdict_has_a_plain_sentence(order: str, verdict: Verdict, detail: str, expected: str) -> None:
    claim = Claim(factor="pe_type", order=[*order.split()])
    answer = Answer("…", verdict, detail, "With figures.", (comparison(margin=0.2),))
    sentence = plain_answer(claim, answer, TERMS)
    assert expected in sentence
    assert sentence.endswith(".")


def test_every_verdict_is_covered() -> None:
    for verdict in Verdict:
        answer = Answer("…", verdict, "", "", (comparison(margin=0.2),))
        assert plain_answer(Claim(factor="pe_type", order=["rope", "sinpe"]), answer, TERMS)
        steps = Answer("…", verdict, "", "", (comparison(), comparison(low=None)))
        assert plain_answer(Claim(factor="pe_type", order=["a", "rope", "sinpe"]), steps, TERMS)


def test_a_probability_is_never_certain() -> None:
    assert [percent(each) for each in (0.0, 0.004, 0.5, 0.99, 0.992, 1.0)] == [
        *("under 1 %", "under 1 %", "50 %", "99 %", "99 %", "over 99 %"),
    ]


def test_a_forest_plot_has_each_setting_and_both_summaries() -> None:
    states = (COMPARED, COMPARED, PRUNED, UNFINISHED, WORSE_DIVERGED)
    settings = tuple(
        Setting({"n": at}, state, *((0.1 - at, -9.0 if at else 0.05, 0.2) if state == COMPARED else (None, None, None)))
        for at, state in enumerate(states)
    )
    image, note = forest_plot(
        comparison(settings=settings, general=(-0.1, 0.3)), ("<rope>", "sinpe"), [f"n {at}" for at in range(5)]
    )
    root = ElementTree.fromstring(image)
    titles = [each.text for each in root.iter("title")]
    assert titles[0] == "By how much <rope> is better than sinpe, by setting"
    assert titles[1:] == [
        "n 0: 0.1 [0.05, 0.2]",
        "n 1: -0.9 [-9, 0.2]",
        "mean of these settings: 0.1 [0.05, 0.15]",
        "in settings like these: 0.1 [-0.1, 0.3]",
    ]
    texts = [each.text for each in root.iter("text")]
    assert {"pruned", "not finished", "diverged: sinpe"} <= set(texts)
    assert note == ""
    many = comparison(MOST_SETTINGS + 7)
    assert forest_plot(many, ("a", "b"), ["x"] * (MOST_SETTINGS + 7))[1] == "7 more settings are left out."


def test_strips_flag_cells_that_end_in_two_places() -> None:
    def row(at: int, *values: float) -> Row:
        seeds = dict(enumerate(values))
        return Row(at, {"n": at}, "complete", (3, 3), None, values[0], 1, None, None, None, None, 0.1, None, seeds)

    rows = [row(at, 1.0 + at, 1.1 + at, 1.2 + at) for at in range(MOST_CELLS + 3)]
    strips = seed_strips(rows, str, modes=[Modes({"n": 0}, 1.0, 2.0, (2, 1))])
    assert strips is not None
    root = ElementTree.fromstring(strips.image)
    assert sum("seed" in each.attrib["class"] for each in root.iter("circle")) == 3 * MOST_CELLS
    assert any((each.text or "").endswith(" *") for each in root.iter("text"))
    assert strips.notes == [
        "* The seeds of this cell end in two places, so no trial ends near its mean.",
        "3 more cells left out.",
    ]
    assert seed_strips([row(1, 2.0)], str) is None


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (nothing, ["27 trials have not ended yet: finish the study."]),
        (half, ["15 trials have not ended yet: finish the study."]),
        (mixed, ["failed: see why"]),
    ],
)
def test_what_to_run_next_of_an_unfinished_study(tmp_path: Path, end: Any, expected: list[str]) -> None:
    with ended_study(tmp_path, end) as database:
        data = read_report_data(database, ["small", "small-baselines"], with_trials=True)
    steps = data.next_steps()
    assert all(any(text in step.why for step in steps) for text in expected)
    for step in steps:
        # `run` gets what planned the study, `status` the name in the database.
        named = "--study small " if "status" in step.command else "small.toml "
        assert named in step.command
        assert "--storage sqlite:///" in step.command


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[ReportData, dict[str, str]]]:
    """The measured study with five seeds, with those where they decide, and pruned with one."""
    found = {}
    for name, how in (("full", everything), ("auto", where_they_decide), ("pruned", one_seed_pruned)):
        with measured_study(tmp_path_factory.mktemp(name), how) as database:
            texts = {form: render(database, NAMES, form) for form in ("markdown", "json", "latex", "html")}
            texts["notebook"] = result_as_html(database, NAMES, "done")
            found[name] = read_report_data(database, NAMES, with_trials=True), texts
    return found


def test_all_formats_say_the_same(studies: dict[str, tuple[ReportData, dict[str, str]]]) -> None:
    for data, texts in studies.values():
        plain = {form: _plain(text) for form, text in texts.items()}
        [best] = best_line(data)
        facts = json.loads(texts["json"])
        assert facts["best"] == best
        assert best in plain["markdown"]
        assert best.split(".")[0] in plain["latex"]
        answers, steps = short_answers(data), data.next_steps()
        assert len(answers) == 7
        assert [each["sentence"] for each in facts["claims"]] == [each.sentence for each in answers]
        assert [each["command"] for each in facts["next"]] == [each.command for each in steps]
        for answer in answers:
            assert all(_plain(answer.sentence) in plain[form] for form in ("markdown", "html", "notebook"))
            assert all(answer.verdict in plain[form] for form in ("markdown", "notebook"))
        for step in steps:
            assert all(step.command in plain[form] for form in ("markdown", "html", "notebook"))


def _plain(text: str) -> str:
    """Text without the marks of its format."""
    text = re.sub(r"<[^>]*>", "", text).replace("\\", "").replace("$pm$", "±").replace("&#39;", "'")
    return text.replace("&gt;", ">").replace("&lt;", "<").replace("\u202f", "")


def test_an_unchanged_built_in_study_is_named_and_a_changed_one_is_a_file() -> None:
    for name in builtin_studies():
        for change, shown in (([], name), (["max_iters=900"], f"{name}.toml"), (["n_embd=64"], f"{name}.toml")):
            [plan, *_] = study_plans(Study(load_definition(name, change), name, None))
            assert study_argument(planned_study(plan)) == shown


def test_what_to_run_next(studies: dict[str, tuple[ReportData, dict[str, str]]]) -> None:
    commands = {name: [step.command for step in data.next_steps()] for name, (data, _) in studies.items()}
    assert [re.sub(r" --storage \S+", "", each) for each in commands["pruned"]] == [
        "python -m search.run --study bigram --pruner none --name bigram-unpruned",
        "python -m search.run --study bigram --seeds auto",
        "python -m search.run --study bigram --confirm 3",
    ]
    data = studies["full"][0]
    default = next_steps(data.stored, data.counts, data.rows, data.verdicts, "sqlite:///search.db")
    assert all("--storage" not in each.command for each in default)
    server = next_steps(data.stored, data.counts, data.rows, data.verdicts, "postgresql://me:***@host/search")
    assert all('--storage "$SEARCH_STORAGE"' in each.command for each in server)


def test_how_sure_the_best_is(studies: dict[str, tuple[ReportData, dict[str, str]]]) -> None:
    data = studies["full"][0]
    assert data.verdicts is not None
    [line], n = best_line(data), len(data.verdicts.candidates)
    assert line.startswith("block_size 64, n_embd 64, pe_type rope, validation loss 2.3")
    assert (f"{n} cells may be the best (95 %)" if n > 1 else "Each other cell is worse beyond chance") in line
    assert "How sure is open" in best_line(studies["pruned"][0])[0]


def test_importances_find_the_axis_that_matters() -> None:
    space = {"x": {"low": 0.0, "high": 1.0}, "y": {"low": 0.0, "high": 1.0}}
    distributions = axis_distributions({}, parse_definition({"objective": "a:b", "axes": space}).axes)

    def rows(n: int) -> list[Row]:
        cells = [{"x": (7 * at % n) / n, "y": (13 * at % n) / n} for at in range(n)]
        cells.sort(key=lambda cell: abs(cell["x"] - 0.3))
        return [
            Row(at, cell, "complete", (1, 1), None, abs(cell["x"] - 0.3), 1, None, None, None)
            for at, cell in enumerate(cells, start=1)
        ]

    found = importances(distributions, rows(60))
    assert list(found) == ["x", "y"]
    assert found["x"] > 0.7
    assert importances(distributions, rows(5)) == {}  # too few
    assert importances(distributions, rows(2001)) == {}  # it would take too long
