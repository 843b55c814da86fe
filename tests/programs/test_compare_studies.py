"""`report --study A --study B`: common cells side by side, verdicts, and what differs between two studies."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from finished_studies import CORPUS, GRID, End, ended_study, failed, loss_of, pruned, record_code
from study_files import sqlite
from typer.testing import CliRunner

from search.report import app
from search.reporting.render import FORMATS
from search.reporting.study_result import StudyResult

Ends = Callable[[Mapping[str, Any]], End | None]


def changed(by: float, where: Mapping[str, Any] | None = None, noise: float = 1.0) -> Ends:
    """Every trial is complete; the losses of some cells are changed, and seeds differ by other noise."""

    def end(cell: Mapping[str, Any]) -> End:
        there = all(cell.get(axis) == value for axis, value in (where or {}).items())
        # Noise that depends on the cell too, so that no seed is good everywhere.
        of_seed = (
            hash((cell["seed"], cell.get("n_embd"), cell["block_size"], cell.get("pe_type") == "rope")) % 97
        ) / 97
        return End("complete", {0: 4.0, 40: loss_of(cell) + by * there + 0.01 * noise * of_seed})

    return end


def mixed_ends(cell: Mapping[str, Any]) -> End | None:
    """Wide cells of rope are pruned, wide ones of randn fail, long narrow ones wait."""
    if cell.get("n_embd") == 128:
        return pruned(cell) if cell["pe_type"] == "rope" else failed(cell)
    return None if cell["block_size"] == 16 else changed(0.0)(cell)


def both(folder: Path, first: Ends, second: Ends, study: str = GRID, seeds: int = 4, **of_second: Any) -> None:
    """The studies "small" and "other" in one database."""
    with ended_study(folder, first, seeds):
        pass
    (folder / "other").mkdir()
    with ended_study(folder, second, seeds, study, name="other", **of_second):
        pass


def report(folder: Path, *arguments: str, studies: tuple[str, ...] = ("small", "other")) -> Any:
    named = [each for study in studies for each in ("--study", study)]
    return CliRunner().invoke(app, [*named, "--storage", sqlite(folder), *arguments])


def as_json(folder: Path, *arguments: str, studies: tuple[str, ...] = ("small", "other")) -> Any:
    result = report(folder, "--format", "json", *arguments, studies=studies)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("by", "where", "verdict"),
    [
        (-0.1, {}, "other is better, everywhere"),
        (0.1, {}, "small is better, everywhere"),
        (-0.1, {"pe_type": "rope"}, "other is better, on average"),
        (0.0, {}, "cannot tell yet"),
    ],
)
def test_verdicts(by: float, where: dict[str, Any], verdict: str, tmp_path: Path) -> None:
    both(tmp_path, changed(0.0), changed(by, where))
    found = as_json(tmp_path, "--no-baselines")
    assert found["verdict"].startswith(verdict)
    assert len(found["cells"]) == 8
    for each in found["cells"]:
        expected = by if all(each["cell"].get(axis) == value for axis, value in where.items()) else 0.0
        assert each["difference"] == pytest.approx(each["second"]["value"] - each["first"]["value"])
        assert each["difference"] == pytest.approx(expected, abs=0.02)
        assert each["low"] < each["difference"] < each["high"]
        better = "cannot tell yet" if not expected else "other is better" if expected < 0 else "small is better"
        assert each["verdict"] == better
        assert (each["first"]["seeds"], each["second"]["seeds"]) == (4, 4)
    assert found["low"] <= found["difference"] <= found["high"]
    assert ("By themselves 4 show it: pe_type is rope" in found["sentence"]) == bool(where)
    values = [min(each["first"]["value"], each["second"]["value"]) for each in found["cells"]]
    assert values == sorted(values)


def test_each_can_be_better_somewhere(tmp_path: Path) -> None:
    both(tmp_path, changed(0.1, {"n_embd": 64}), changed(0.1, {"n_embd": 128}))
    found = as_json(tmp_path, "--no-baselines")
    assert found["verdict"] in {"other is better only where n_embd is 64", "small is better only where n_embd is 128"}
    assert "The opposite holds where n_embd is" in found["sentence"]
    better = {(each["cell"]["n_embd"], each["verdict"]) for each in found["cells"]}
    assert better == {(64, "other is better"), (128, "small is better")}


def test_higher_values_can_be_better(tmp_path: Path) -> None:
    study = 'metric = "accuracy"\ndirection = "maximize"\n' + GRID.split("[[published]]")[0]
    with ended_study(tmp_path, changed(0.0), 4, study):
        pass
    with ended_study(tmp_path, changed(0.1), 4, study, name="other"):
        pass
    found = as_json(tmp_path)
    assert found["verdict"] == "other is better, everywhere"
    assert found["difference"] > 0.09
    assert {each["verdict"] for each in found["cells"]} == {"other is better"}
    assert found["metric"] == {"name": "accuracy", "direction": "maximize"}
    # The other way round.
    turned = as_json(tmp_path, studies=("other", "small"))
    assert turned["verdict"] == found["verdict"]
    assert turned["difference"] == pytest.approx(-found["difference"])
    assert (turned["low"], turned["high"]) == pytest.approx((-found["high"], -found["low"]))


def test_pruned_failed_and_unfinished_cells_have_no_verdict_by_value(tmp_path: Path) -> None:
    both(tmp_path, changed(0.0), mixed_ends)
    found = as_json(tmp_path, "--no-baselines")
    verdicts = {
        (each["cell"]["n_embd"], each["cell"]["pe_type"], each["cell"]["block_size"]): each for each in found["cells"]
    }
    assert found["verdict"].startswith("not answerable (pruned: 2 of 8 settings are left")
    assert verdicts[128, "rope", 8]["verdict"] == "not answerable (pruned)"
    assert verdicts[128, "rope", 8]["second"] == {"value": None, "reach": None, "seeds": 0, "state": "pruned"}
    assert verdicts[128, "randn", 8]["verdict"] == "small is better (other diverged or failed)"
    assert verdicts[64, "rope", 16]["verdict"] == "cannot tell yet (not finished)"
    assert verdicts[64, "rope", 8]["difference"] is not None


@pytest.mark.parametrize(("ends", "said"), [(pruned, "pruned"), (failed, "diverged"), (mixed_ends, "unfinished")])
def test_every_format_of_studies_without_values(ends: Ends, said: str, tmp_path: Path) -> None:
    both(tmp_path, ends, ends, seeds=2)
    for format in FORMATS:
        result = report(tmp_path, "--format", format)
        assert result.exit_code == 0, result.output
        assert said in result.stdout, format


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    both(tmp_path, changed(0.0), changed(-1.0), seeds=1)
    found = as_json(tmp_path, "--no-baselines")
    assert found["verdict"] == "cannot tell yet (one seed a cell)"
    assert found["difference"] == pytest.approx(-1.0, abs=0.02)
    assert {each["verdict"] for each in found["cells"]} == {"cannot tell yet"}
    assert {each["low"] for each in found["cells"]} == {None}


def test_an_axis_of_one_value_is_a_setting(tmp_path: Path) -> None:
    def lr(values: str) -> str:
        return GRID.replace("[grid]", f"[grid]\nlearning_rate = [{values}]", 1)

    with ended_study(tmp_path, changed(0.0), 3, lr("0.001")):
        pass
    with ended_study(tmp_path, changed(-0.1), 3, lr("0.002"), name="other"):
        pass
    with ended_study(tmp_path, changed(-0.1), 3, lr("0.002, 0.001"), name="both"):
        pass
    with ended_study(tmp_path, changed(-0.1), 3, lr("0.004, 0.002"), name="none"):
        pass
    found = as_json(tmp_path, "--no-baselines")
    assert found["verdict"] == "other is better, everywhere"
    assert "learning_rate" not in found["cells"][0]["cell"]
    assert ("grid.learning_rate", [0.001], [0.002]) in [
        (each["name"], each["first"], each["second"]) for each in found["differences"]
    ]
    # A study with both values has the cells of the first as they are.
    found = as_json(tmp_path, "--no-baselines", studies=("small", "both"))
    assert {each["cell"]["learning_rate"] for each in found["cells"]} == {0.001}
    assert found["only"] == [0, 8]
    result = report(tmp_path, "--no-baselines", studies=("small", "none"))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "small and none have no cell in common: the first has for example randn learning_rate=0.001" in result.stderr
    assert "--set or --enqueue" in result.stderr


def test_what_differs_and_every_format(tmp_path: Path) -> None:
    study = GRID.replace("max_iters = 40", "max_iters = 60").replace("n_embd = [64, 128]", "n_embd = [64, 256]")
    study += '[pruner]\nname = "median"\n[[claims]]\nfactor = "pe_type"\norder = ["rope", "randn"]\n'
    with ended_study(tmp_path, changed(0.0), 3) as database:
        record_code(database, ["0123"])
    with ended_study(tmp_path, changed(-0.1), 2, study, "another text " * 60, name="other") as database:
        record_code(database, ["4567", "0123"])
    found = as_json(tmp_path)
    differs = {f"{each['group']}.{each['name']}": (each["first"], each["second"]) for each in found["differences"]}
    assert differs["training.max_iters"] == (40, 60)
    assert differs["pruner.name"] == ("top", "median")
    assert "objective.corpus_sha256" in differs
    assert differs["plan.seeds"] == (3, 2)
    assert any(name.startswith("claims.") for name in differs)
    assert found["only"] == [4, 4]
    assert [(each["first"]["seeds"], each["second"]["seeds"]) for each in found["cells"]] == [(3, 2)] * 5
    texts = {format: report(tmp_path, "--format", format).stdout for format in FORMATS}
    for format in ("markdown", "latex", "html"):
        assert "other is better, everywhere" in texts[format], format
        assert "5 cells in both, 4 only in small, 4 only in other" in texts[format].replace("5 Cells", "5 cells")
    for format in ("markdown", "html"):
        assert "max_iters" in texts[format], format
    rows = list(csv.DictReader(io.StringIO(texts["csv"])))
    assert len(rows) == 5
    assert float(rows[0]["first_value"]) == found["cells"][0]["first"]["value"]
    assert rows[0]["verdict"] == "other is better"
    for format, text in texts.items():
        output = tmp_path / f"comparison{FORMATS[format]}"
        assert report(tmp_path, "--output", str(output)).exit_code == 0
        assert output.read_text(encoding="utf-8") == text
    assert len(as_json(tmp_path, "--top", "2")["cells"]) == 2
    assert "3 more cells." in report(tmp_path, "--top", "2").stdout


def test_a_study_of_another_database(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    with ended_study(tmp_path / "here", changed(0.0), 3):
        pass
    with ended_study(tmp_path / "there", changed(0.0), 3):
        pass
    there = sqlite(tmp_path / "there")
    found = as_json(tmp_path / "here", studies=("small", f"small@{there}"))
    assert found["second"].startswith("small in sqlite:///")
    assert found["differences"] == []
    # Trials made again: all values are equal.
    assert found["equal_trials"] == [27, 27]
    assert found["difference"] == 0
    text = report(tmp_path / "here", studies=("small", f"small@{there}")).stdout
    assert "27 of 27 pairs of trials with the same cell and seed have the same value" in text
    assert "Nothing that is recorded." in text
    alone = report(tmp_path / "here", studies=(f"small@{there}",))
    assert alone.exit_code == 0
    assert "# small" in alone.stdout


def test_from_python(tmp_path: Path) -> None:
    both(tmp_path, changed(0.0), changed(-0.1))
    results = [StudyResult(name, sqlite(tmp_path), [], {}, 0.0, 0) for name in ("small", "other")]
    found = results[0].compare(results[1])
    assert found.results.verdict == "other is better, everywhere"
    assert found.report() == results[0].compare("other").report("markdown") == report(tmp_path).stdout.rstrip("\n")
    assert repr(found) == "ComparisonReport(small, other: other is better, everywhere; 9 cells in both)"


@pytest.mark.parametrize(
    ("studies", "rest", "message"),
    [
        (("small", "small"), (), "--study small is given twice; give two studies, or NAME@URL"),
        (("small", "other", "small"), (), "--study is given 3 times; give one study, or two to compare them"),
        (("small", "no"), (), "no study 'no' in"),
        (("small", "accurate"), (), "small is ranked by val_loss (lower is better), accurate by accuracy (higher"),
        (("small", "other"), ("--columns", "rank"), "--columns is for the table of one study"),
        (("small", "other"), ("--format", "pdf"), "--format pdf: choices are markdown"),
        (("small", "other@mysql://me:hush@host/x"), (), "databases of kind 'mysql' are not supported"),
    ],
)
def test_wrong_use(studies: tuple[str, ...], rest: tuple[str, ...], message: str, tmp_path: Path) -> None:
    both(tmp_path, changed(0.0), changed(0.0), seeds=1)
    accurate = 'metric = "accuracy"\ndirection = "maximize"\n' + GRID.split("[[published]]")[0]
    with ended_study(tmp_path, changed(0.0), 1, accurate, CORPUS, name="accurate"):
        pass
    result = report(tmp_path, *rest, studies=studies)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert message in result.stderr
    assert "hush" not in result.stderr
