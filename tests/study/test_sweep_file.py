"""Sweep files of Weights & Biases become study files; what has no counterpart is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest

from search.errors import UsageError
from search.study.sweep_file import Sweep, convert, read_sweep

BAYES = """
program: train.py
name: My sweep
method: bayes
project: chars
metric:
  name: validation/loss
  goal: minimize
parameters:
  learning-rate:
    min: 1e-4
    max: 0.1
    distribution: log_uniform_values
  batch_size:
    values: [16, 32, 64]
  layers: {min: 2, max: 6}
  dropout: {min: 0.0, max: 0.5}
  width: {distribution: q_uniform, min: 64, max: 256, q: 64}
  epochs: {value: 5}
early_terminate: {type: hyperband, min_iter: 3, eta: 2}
run_cap: 30
"""


def swept(**changes: Any) -> Sweep:
    """A small sweep with changes; None removes a key."""
    raw = {"program": "train.py", "method": "random", "parameters": {"x": {"min": 0.0, "max": 1.0}}, **changes}
    return convert({key: value for key, value in raw.items() if value is not None})


def test_a_whole_file() -> None:
    sweep = read_sweep(BAYES, "sweep.yaml")
    assert sweep.content == {
        "name": "My-sweep",
        "sampler": "tpe",
        "trials": 30,
        "metric": "validation/loss",
        "direction": "minimize",
        "command": [
            *("{python}", "train.py", "--learning-rate={learning_rate}", "--batch_size={batch_size}"),
            *("--layers={layers}", "--dropout={dropout}", "--width={width}", "--epochs={epochs}"),
        ],
        "pruner": {"name": "SuccessiveHalvingPruner", "min_resource": 3, "reduction_factor": 2},
        "grid": {"batch_size": [16, 32, 64], "epochs": [5]},
        "axes": {
            "learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
            "layers": {"low": 2, "high": 6},
            "dropout": {"low": 0.0, "high": 0.5},
            "width": {"low": 64, "high": 256, "step": 64},
        },
    }
    assert sweep.notes == [
        "method bayes → sampler tpe",
        "early_terminate hyperband → pruner SuccessiveHalvingPruner, first at step 3, reduction factor 2",
        "project: ignored",
    ]


@pytest.mark.parametrize(
    ("parameter", "found"),
    [
        ({"min": 0, "max": 1.0}, {"low": 0.0, "high": 1.0}),
        ({"min": 3, "max": 3}, [3]),
        ({"distribution": "log_uniform", "min": 0, "max": 0}, [1.0]),
        ({"distribution": "q_uniform", "min": 0.05, "max": 1, "q": 0.5}, {"low": 0.0, "high": 1.0, "step": 0.5}),
        ({"distribution": "q_uniform", "min": 0, "max": 0.45, "q": 0.15}, {"low": 0.0, "high": 0.45, "step": 0.15}),
        ({"distribution": "q_uniform", "min": 0, "max": 10, "q": 2.5}, {"low": 0.0, "high": 10.0, "step": 2.5}),
        ({"distribution": "int_uniform", "min": 1, "max": 9}, {"low": 1, "high": 9}),
        ({"values": ["1e-3", "1e-2"]}, [1e-3, 1e-2]),
        ({"values": ["adam", True, None]}, ["adam", True, None]),
        ({"values": [1, 2], "probabilities": [0.5, 0.5]}, [1, 2]),
    ],
)
def test_parameters(parameter: dict[str, Any], found: Any) -> None:
    content = swept(parameters={"x": parameter}).content
    assert {**content["grid"], **content.get("axes", {})} == {"x": found}


def test_a_grid() -> None:
    parameters = {"x": {"min": 1, "max": 3}, "y": {"values": ["a"]}, "seed": {"values": [7, 8]}}
    content = swept(method="grid", parameters=parameters, run_cap=6).content
    assert content["grid"] == {"x": [1, 2, 3], "y": ["a"]}
    assert (content["seeds"], content["first_seed"]) == (2, 7)
    assert content["command"][-1] == "--seed={seed}"
    assert not {"sampler", "trials"} & content.keys()


def test_commands() -> None:
    command = ["${env}", "${interpreter}", "-u", "${program}", "--config={a: 1}", "${args_no_hyphens}"]
    assert swept(command=command).content["command"] == ["{python}", "-u", "train.py", "--config={{a: 1}}", "x={x}"]
    assert swept(program=None, command="bash run.sh ${args}").content["command"] == ["bash", "run.sh", "--x={x}"]


def test_notes() -> None:
    assert swept().notes == ["no run_cap → trials = 50; another number: --set trials=N"]
    sweep = swept(run_cap=4, metric={"name": "acc", "goal": "maximize", "target": 0.9})
    assert (sweep.content["trials"], sweep.content["direction"]) == (4, "maximize")
    assert sweep.notes == ["metric.target: ignored; to stop there, give --target 0.9"]
    sweep = swept(run_cap=7, parameters={"x": {"min": 0.0, "max": 1.0}, "seed": {"min": 5, "max": 7}})
    assert (sweep.content["trials"], sweep.content["seeds"], sweep.content["first_seed"]) == (2, 3, 5)
    assert sweep.notes == ["parameters.seed → 3 seeds for each cell"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "hyper"}, r"method: hyper is not supported; choices: grid, random, bayes"),
        ({"paramters": {}}, r"paramters is not supported \(did you mean 'parameters'\?\); remove it"),
        ({"program": None}, r"program is missing; write the script"),
        ({"parameters": []}, r"parameters: \[\] is no table"),
        ({"parameters": {"x": 3}}, r"parameters.x: 3 has no value, values, min or max"),
        ({"parameters": {"x": {"parameters": {}}}}, r"nested parameters are not supported; write them at the top"),
        ({"parameters": {"x": {"values": [1, 2], "probabilities": [0.9, 0.1]}}}, r"probabilities are not supported"),
        ({"parameters": {"x": {"distribution": "normal", "mu": 0}}}, r"distribution normal is not supported .*; give"),
        ({"parameters": {"x": {"distribution": "q_log_uniform", "min": 1, "max": 2}}}, r"q_log_uniform is not support"),
        ({"parameters": {"x": {"min": "low", "max": 2}}}, r"parameters.x.min: low is no number"),
        ({"parameters": {"a-b": {"value": 1}, "a.b": {"value": 1}}}, r"another parameter is called a-b; rename one"),
        ({"parameters": {"seed": {"values": [1, 5]}}}, r"parameters.seed: \[1, 5\] cannot be the seeds of each cell"),
        ({"parameters": {"seed": {"values": [1, "a"]}}}, r"parameters.seed: \[1, 'a'\] cannot be the seeds of each"),
        ({"parameters": {"seed": {"min": 0.0, "max": 9}}}, r"parameters.seed: .* cannot be the seeds of each cell"),
        (
            {"parameters": {"seed": {"distribution": "q_uniform", "min": 0, "max": 8, "q": 2}}},
            r"parameters.seed: .* cannot be the seeds of each cell",
        ),
        (
            {"parameters": {"x": {"min": 0.0, "max": 1.0}, "seed": {"min": 1, "max": 10**9}}, "run_cap": 50},
            r"parameters.seed: each cell gets 1000000000 seeds, and run_cap allows 50 runs; write at most 50 seeds",
        ),
        (
            {"parameters": {"x": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}}},
            r"parameters.x.q: 0 is no step; write a number above 0",
        ),
        (
            {"parameters": {"x": {"distribution": "log_uniform", "min": 0, "max": 1000}}},
            r"parameters.x: log_uniform takes the exponents of the values, and e to the power of 1000 is too large",
        ),
        ({"method": "grid"}, r"parameters.x: method grid needs a list of values, not a range"),
        ({"method": "grid", "parameters": {"x": {"values": [1, 2]}}, "run_cap": 1}, r"run_cap: 1 is below the 2 trial"),
        ({"run_cap": 0}, r"run_cap: 0 is no number of runs"),
        ({"method": "bayes"}, r"metric is missing"),
        ({"metric": {"name": "loss", "goal": "min"}}, r"metric.goal: min is not supported; choices: minimize, maximiz"),
        (
            {"metric": {"name": "loss"}, "early_terminate": {"type": "envelope"}},
            r"early_terminate.type: envelope ",
        ),
        (
            {"metric": {"name": "loss"}, "early_terminate": {"type": "hyperband"}},
            r"early_terminate.min_iter is mis",
        ),
        ({"command": ["python", "${args_json}"]}, r"command: \$\{args_json\} is not supported"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        swept(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "3", "a: 1", "- x"])
def test_files_that_are_no_sweep(text: str) -> None:
    with pytest.raises(UsageError, match=r"^sweep.yaml is (not valid YAML|no sweep file of Weights & Biases): "):
        read_sweep(text, "sweep.yaml")
