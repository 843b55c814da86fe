"""Analyses of study files: their settings, what they recover from made-up studies, and how reports show them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_studies import End, ended_study
from study_files import write_study

from benchmarks.research.__main__ import cell as judged
from benchmarks.research.scaling_worlds import ALPHA, BETA, IRREDUCIBLE, LENGTHS, SCALING_WORLDS, SIZES, law
from benchmarks.research.scores import scores
from benchmarks.research.transfer_worlds import TRANSFER_WORLDS
from search.errors import UsageError
from search.reporting.render import render
from search.reporting.toml_export import study_as_toml
from search.statistics.configurations import Names, configurations
from search.statistics.measured import Measured
from search.statistics.noise import fit_noise
from search.statistics.noise_trend import trended
from search.statistics.optimum import Points, fit_curves
from search.statistics.power_law import fit_law
from search.statistics.scaling import fit_scaling, frontier
from search.statistics.scaling_answer import answer_scaling
from search.statistics.speed_up import speed_up
from search.statistics.transfer import transfer
from search.statistics.transfer_answer import answer_transfer
from search.study.analyses import Prediction, Scaling, SpeedUp, Transfer
from search.study.definition import load_definition
from search.study.metrics import Metric
from search.study.stored import read_stored_study

AXES = """
objective = "fake_objective:start"
seeds = 2
[grid]
block_size = [8, 16, 32, 64]
n_embd = [32, 64, 128]
pe_type = ["rope", "sinpe"]
"""
TRANSFER = '[[analyses]]\nkind = "transfer"\naxis = "block_size"\nalong = "n_embd"\n'
SCALING = '[[analyses]]\nkind = "scaling"\nparameters = "n_embd"\ntokens = "block_size"\n'
WRONG = {
    "kind": ('[[analyses]]\nkind = "transfre"\n', "analyses.0.kind = 'transfre' is unknown (did you mean 'transfer'?)"),
    "no kind": ('[[analyses]]\naxis = "n_embd"\n', "analyses.0.kind is missing; choices: scaling, transfer"),
    "no table": ("analyses = 3\n", "analyses = 3: write [[analyses]] above the keys of each"),
    "key": (TRANSFER + "withn = 2.0\n", "unknown key 'analyses.0.withn' (did you mean 'within'?); choices: "),
    "nested key": (SCALING + "predict = [{ params = 1e6 }]\n", "unknown key 'analyses.0.predict.0.params'"),
    "no axis": ('[[analyses]]\nkind = "transfer"\nalong = "n_embd"\n', "analyses.0.axis is missing"),
    "unknown axis": (TRANSFER.replace('"block_size"', '"block_siz"'), "'block_siz' is not an axis (did you mean 'bl"),
    "texts": (TRANSFER.replace('"n_embd"', '"pe_type"'), "analyses.0.along = 'pe_type' has the value 'rope'; its log"),
    "itself": (TRANSFER.replace('"n_embd"', '"block_size"'), "analyses.0.along = 'block_size' is its axis, too"),
    "factor": (TRANSFER + "within = 1.0\n", "analyses.0.within = 1.0: it should be greater than 1"),
    "prediction": (SCALING + "predict = [{}]\n", "analyses.0.predict.0 is empty; give it parameters, tokens or both"),
    "speed-up": (
        SCALING + 'speed_up = { axis = "pe_type", of = "rope", over = "none" }\n',
        "analyses.0.speed_up.over = 'none' is not a value of pe_type; choices: rope, sinpe",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_wrong_settings_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    top = text.startswith("analyses")
    with pytest.raises(UsageError) as raised:
        load_definition(write_study(tmp_path, text + AXES if top else AXES + text))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_too_few_values_of_an_axis(tmp_path: Path) -> None:
    study = AXES.replace("[8, 16, 32, 64]", "[8, 16]") + TRANSFER
    with pytest.raises(UsageError, match=r"analyses\.0\.axis = 'block_size' has 2 of the 3 values"):
        load_definition(write_study(tmp_path, study))


def rates_study(power: float, noise: float, depths: int = 2) -> list[Measured]:
    """Parabolas in the logarithm of a rate, whose optimum is 0.01 at width 32 and goes with the width to a power."""
    rng = np.random.default_rng(3)
    return [
        Measured({"rate": rate, "width": width, "depth": depth}, (mean + noise * rng.normal(size=3)).tolist())
        for depth in range(depths)
        for width in (16, 32, 64)
        for rate in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
        for mean in [2 + 0.1 * math.log(rate / (0.01 * (width / 32) ** power)) ** 2 + 0.1 * depth]
    ]


@pytest.mark.parametrize("noise", [0.0, 0.005])
@pytest.mark.parametrize(
    ("power", "verdict"),
    [(0.0, "yes: within a factor of 1.4"), (-0.1, "yes, though it drifts"), (-0.7, "no, it drifts")],
)
def test_transfer(noise: float, power: float, verdict: str) -> None:
    cells = rates_study(power, noise / 5 if power == -0.1 else noise)
    found = transfer(cells, "rate", "width")
    assert found is not None
    assert found.drift is not None
    assert found.drift.slope == pytest.approx(power, abs=0.1 if noise else 1e-4)
    assert [each.optimum for each in found.levels] == pytest.approx(
        [0.01 * (width / 32) ** power for width in (16, 32, 64)], rel=0.15 if noise else 1e-3
    )
    best = found.choices[0]
    assert best.value == 0.01
    assert best.mean == pytest.approx(0.1 * (power * math.log(2)) ** 2 * 2 / 3, abs=0.003)
    answer = answer_transfer(Transfer(axis="rate", along="width"), cells, Metric())
    assert answer.verdict.startswith(verdict)
    assert json.dumps(answer.as_dict(), allow_nan=False)


def test_too_little_for_transfer_is_said() -> None:
    settings = Transfer(axis="rate", along="width")
    assert answer_transfer(settings, [], Metric()).sentences == ["No cell has a final value yet."]
    few = [each for each in rates_study(0, 0.01) if each.cell["rate"] < 5e-3]
    assert (
        "No three cells with final values differ in rate alone." in answer_transfer(settings, few, Metric()).sentences
    )
    # The optimum, 0.01, is beyond the values that are left.
    low = [each for each in rates_study(0, 0.01) if each.cell["rate"] < 0.02 and each.cell["width"] == 16]
    answer = answer_transfer(settings, low, Metric())
    assert answer.verdict == "cannot tell yet"


def test_a_minimum_beyond_the_points_has_no_bound_there() -> None:
    at = np.arange(4.0)
    [falling] = fit_curves([Points(at, 3 - at, np.full(4, 1e-4), 10.0)])
    assert falling.interval[1] == math.inf
    [valley] = fit_curves([Points(at, (at - 1.3) ** 2, np.full(4, 1e-6), 10.0)])
    assert valley.minimum == pytest.approx(1.3)
    assert valley.interval[0] < 1.3 < valley.interval[1]


@pytest.mark.parametrize("growth", [0.0, 1.5])
def test_noise_beyond_the_optimum(growth: float) -> None:
    rng = np.random.default_rng(7)
    places, groups = [np.arange(5.0)] * 8, [list(range(5 * at, 5 * at + 5)) for at in range(8)]
    distance = np.tile(np.arange(5.0) - 2, 8)
    size = 0.01 * np.exp(growth * np.maximum(distance, 0))
    means = (2 + 0.3 * distance**2)[:, np.newaxis]
    noise = fit_noise(means + size[:, np.newaxis] * rng.normal(size=(40, 3)))
    assert noise is not None
    found = trended(noise, places, groups)
    if not growth:
        assert found is None
        return
    assert found is not None
    ratios = found.variance.reshape(8, 5).mean(axis=0) / size[:5] ** 2
    assert (ratios > 0.3).all()
    assert (ratios < 3).all()
    assert 2 < found.joint_df(groups[0], found.variance[:5]) <= found.total


def law_study(noise: float = 0.0, slower: float = 1.0, **more: Any) -> list[Measured]:
    rng = np.random.default_rng(5)
    return [
        Measured(known | more, [float(law(size, length / slower)) * math.exp(noise * rng.normal())], quantities=known)
        for size in SIZES
        for length in LENGTHS
        for known in [{"parameters": size, "tokens": length}]
    ]


def test_the_law_of_a_study_without_noise() -> None:
    result = fit_scaling(configurations(law_study(), Names()))
    assert result is not None
    assert result.per_product == pytest.approx(6.0)
    law = result.fit.law
    assert law.exponents[0] == pytest.approx([ALPHA, BETA], rel=1e-3)
    assert law.irreducible[0] == pytest.approx(IRREDUCIBLE, rel=1e-3)
    assert result.held_out is not None
    assert result.held_out.predicted == pytest.approx(result.held_out.losses, rel=1e-4)
    # The best split is where no other number of parameters gives a lower loss.
    [[best]], [[loss]] = frontier(result.fit, np.array([1e12]), 6.0)
    others = best * np.geomspace(0.5, 2, 21)
    losses = result.fit.law.loss(np.stack([others, 1e12 / 6 / others], axis=1))[0]
    assert int(losses.argmin()) == 10
    assert losses.min() == pytest.approx(loss, rel=1e-6)
    for each in result.iso_flops:
        [[wanted]], _ = frontier(result.fit, np.array([each.flops]), 6.0)
        assert each.curve.minimum is None or each.curve.minimum == pytest.approx(math.log(wanted), abs=0.7)


def test_speed_up_and_prediction() -> None:
    cells = law_study(0.002, arm="new") + law_study(0.002, slower=1.5, arm="old")
    of, over = (configurations([each for each in cells if each.cell["arm"] == arm], Names()) for arm in ("new", "old"))
    faster = speed_up(of, over)
    assert faster is not None
    assert faster.low < 1.5 ** (ALPHA / (ALPHA + BETA) * 2) * 1.3
    assert faster.low > 1
    assert faster.quantity == "flops"
    asked = SpeedUp(axis="arm", of="new", over="old")
    settings = Scaling(speed_up=asked, predict=[Prediction(parameters=1e6), Prediction(parameters=1e8, tokens=1e6)])
    answer = answer_scaling(settings, cells, Metric())
    assert any("times the compute of arm new" in each for each in answer.sentences)
    assert any("more than 10 times the largest" in each for each in answer.warnings)
    assert json.dumps(answer.as_dict(), allow_nan=False)


def test_what_no_law_can_be_fitted_to_is_said() -> None:
    assert answer_scaling(Scaling(), [], Metric()).sentences == ["No cell has a final value yet."]
    negative = [Measured(each.cell, [-1.0], quantities=each.quantities) for each in law_study()]
    assert "values above 0" in answer_scaling(Scaling(), negative, Metric()).sentences[0]
    assert "needs three values" in answer_scaling(Scaling(), law_study()[:4], Metric()).sentences[0]
    assert "no number flop" in answer_scaling(Scaling(flops="flop"), law_study(), Metric()).sentences[0]
    assert fit_law(np.ones((3, 1)), np.ones(3)) is None


def valley(cell: Mapping[str, Any]) -> End:
    """The best block_size grows with n_embd, and seeds differ a little."""
    distance = math.log(cell["block_size"] / (20 * (cell["n_embd"] / 64) ** 0.5))
    loss = 1 + 4 / cell["n_embd"] ** 0.5 + 0.1 * distance**2 + 0.002 * (cell["seed"] % 2)
    return End("complete", {0: 5.0, 40: loss})


def test_analyses_in_every_format(tmp_path: Path) -> None:
    study = AXES + TRANSFER + 'text = "Is <b> the same?"\n' + SCALING
    with ended_study(tmp_path, valley, seeds=2, study=study) as database:
        page, text, found = (render(database, ["small"], each) for each in ("html", "markdown", "json"))
        stored = read_stored_study(database, "small")
    assert stored is not None
    assert [each.kind for each in stored.analyses] == ["transfer", "scaling"]
    exported = tmp_path / "again.toml"
    exported.write_text(study_as_toml(stored, (), ()))
    assert load_definition(str(exported)).analyses == stored.analyses
    answers = json.loads(found)["analyses"]
    assert [each["kind"] for each in answers] == ["transfer", "scaling"]
    assert answers[0]["verdict"] == "no, it drifts"
    assert answers[0]["drift"]["slope"] == pytest.approx(0.5, abs=0.05)
    assert "| n\\_embd | best block\\_size | 95 % interval |" in text.replace("n_embd", "n\\_embd").replace(
        "block_size", "block\\_size"
    )
    assert "Is &lt;b&gt; the same?" in page
    assert "Is <b> the same?" not in page
    assert page.count('class="analysis"') == 2
    assert 'aria-label="Best block_size over n_embd"' in page


@pytest.mark.parametrize("world", TRANSFER_WORLDS, ids=lambda each: each.name)
def test_the_benchmark_of_transfer(world: Any) -> None:
    found = scores("transfer", world.name, 2, 12, 0)
    for name in found[0]:
        shares = [each[name] for each in found]
        assert judged(name, shares, has_bound=False).endswith(("ok", "–")), (name, np.nanmean(shares))


def test_the_benchmark_of_laws() -> None:
    found = scores("scaling", SCALING_WORLDS[-1].name, 0, 8, 0)
    assert np.nanmean([each["power of tokens"] for each in found]) >= 0.7
    assert judged("false drift", [1.0] * 30, has_bound=True) == "100.0 % OUT"
    assert judged("power", [1.0] * 95 + [0.0] * 5, has_bound=True) == "95.0 % ok"
