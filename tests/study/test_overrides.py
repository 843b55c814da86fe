"""`--set` is read as TOML by the kind of the axis; Python values stay what they are, or are refused by name."""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_files import write_study

from search.errors import UsageError
from search.study.definition import load_definition
from search.study.overrides import with_setting

STUDY = """
sampler = "tpe"
trials = 4
[grid]
number = [1, 2.5]
text = ["a", "b"]
mixed = [1, "a"]
switch = [true, false]
[axes]
wide = { low = 0.0, high = 1.0 }
"""


class Colour(enum.IntEnum):
    """A number with a name."""

    RED = 3


class Mute:
    """An object without a text."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("number=1.10", [1.1]),
        ("number=64, 128", [64, 128]),
        ("number=[1, 2.0]", [1, 2.0]),
        ("number=0x10,1_000,2e3,.5,1.,007", [16, 1000, 2000.0, 0.5, 1.0, 7]),
        ("number=rope", ["rope"]),
        ('number="64"', ["64"]),
        ("text=1.10", ["1.10"]),
        ("text=1,true,nan", ["1", "true", "nan"]),
        ("text='a,b',\"c\"", ["a,b", "c"]),
        ('text=["x", "1"]', ["x", "1"]),
        ("text=it's", ["it's"]),
        ("mixed=2,b,true", [2, "b", True]),
        ("switch=True", [True]),
    ],
)
def test_text(tmp_path: Path, setting: str, values: list[Any]) -> None:
    read = load_definition(write_study(tmp_path, STUDY), [setting]).grid[setting.partition("=")[0]]
    assert [(value, type(value)) for value in read] == [(value, type(value)) for value in values]


@pytest.mark.parametrize("setting", ["wide={low = 1.0, high = 2.0}", ("wide", {"low": 1.0, "high": 2.0})])
def test_range(tmp_path: Path, setting: Any) -> None:
    axis = load_definition(write_study(tmp_path, STUDY), [setting]).axes["wide"]
    assert (axis.low, axis.high) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("number=range(1, 4)", r"range\(1 is neither a number nor a plain text; put a text in quotes"),
        ("number=1O", r"1O is neither a number nor a plain text"),
        ("number=6 4", r"6 4 is neither"),
        ("text='a", r"'a is not a value of TOML"),
        ("number=[1, 2", r"\[1, 2 is not a value of TOML"),
        ("number=[]", r"the axis number is empty|write KEY"),
        ("number=1\nname = 2", r"neither a number nor a plain text"),
        ("number=" + "9" * 5000, r"^--set number=9+…9+: "),
        ("number=" + "[" * 5000, r"is not a value of TOML"),
    ],
)
def test_text_that_is_refused(tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        load_definition(write_study(tmp_path, STUDY), [setting])
    assert len(str(raised.value)) < 1_000


@pytest.mark.parametrize(
    ("value", "values"),
    [
        ("1.10", ["1.10"]),
        ("64,128", ["64,128"]),
        (range(1, 4), [1, 2, 3]),
        ((1, "a", 2.5), [1, "a", 2.5]),
        ([True, "true"], [True, "true"]),
        (np.float64(0.5), [0.5]),
        (Colour.RED, [3]),
        (0, [0]),
        (False, [False]),
        (-0.0, [-0.0]),
        (None, ["none"]),
        ([1, [None, 2]], [1, "[null,2]"]),
    ],
)
def test_python_values_stay_what_they_are(tmp_path: Path, value: Any, values: list[Any]) -> None:
    read = load_definition(write_study(tmp_path, STUDY), [("number", value)]).grid["number"]
    assert [(each, type(each)) for each in read] == [(each, type(each)) for each in values]


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({1, 2}, "set"),
        (np.int64(3), "int64"),
        (np.array([1, 2]), "ndarray"),
        (iter([1]), "list_iterator"),
        (b"a", "bytes"),
        (Path("a"), "PosixPath"),
        (Mute(), "Mute"),
        (1j, "complex"),
    ],
)
def test_python_values_that_are_refused(tmp_path: Path, value: Any, named: str) -> None:
    message = (
        rf"settings\['number'\] = (.|\n)*: a value of type {named} cannot be stored; give None, bool, int, float, str"
    )
    with pytest.raises(UsageError, match=message):
        load_definition(write_study(tmp_path, STUDY), [("number", value)])


def test_settings_of_sections_and_unknown_keys(tmp_path: Path) -> None:
    study = load_definition(write_study(tmp_path, STUDY), [("max_iters", 7), ("seeds", [2]), "lease_s=5"])
    assert (study.training.max_iters, study.seeds, study.workers.lease_s) == (7, 2, 5.0)
    with pytest.raises(UsageError, match=re.escape("settings['numbr'] = 1: unknown key 'numbr' (did you mean")):
        load_definition(write_study(tmp_path, STUDY), [("numbr", 1)])


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("x = [{n}]\ny = [{n}]", "the grid has 1000000 cells (1000 x x 1000 y), which with 1 seed each is 1000000"),
        ("x = [{n}]\n", None),
    ],
)
def test_the_product_of_a_grid_is_bounded(tmp_path: Path, head: str, message: str | None) -> None:
    text = "[grid]\n" + head.replace("{n}", ", ".join(map(str, range(1000))))
    if message is None:
        load_definition(write_study(tmp_path, "seeds = 100\n" + text))
    with pytest.raises(UsageError, match=re.escape(message or "which with 101 seeds each is 101000 trials")):
        load_definition(write_study(tmp_path, "seeds = 101\n" * (message is None) + text))


def test_the_trials_of_a_sampler_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=re.escape("trials = 60000 with 2 seeds each is 120000 trials; at most 100000")
    ):
        load_definition(write_study(tmp_path, "seeds = 2\n" + STUDY.replace("trials = 4", "trials = 60000")))


def test_true_and_one_have_a_message_of_their_own(tmp_path: Path) -> None:
    for values in ("[true, 1]", "[0.0, 2, false]"):
        with pytest.raises(UsageError, match="Optuna takes them for one value; write texts"):
            load_definition(write_study(tmp_path, f"[grid]\nx = {values}\n"))
    with pytest.raises(UsageError, match="has a value twice"):
        load_definition(write_study(tmp_path, "[grid]\nx = [1, 1.0]\n"))


def test_axes_keep_the_order_of_the_file(tmp_path: Path) -> None:
    axes = "zeta = { low = 1, high = 2 }\nalpha = [1, 2]\nmid = { low = 1, high = 2 }\n"
    study = f'sampler = "tpe"\ntrials = 2\n[axes]\n{axes}'
    assert load_definition(write_study(tmp_path, study)).axis_order == ("zeta", "alpha", "mid")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("launcher.partition=gpu", "gpu"),
        ("launcher.gpus=1", 1),
        ("launcher.time=4:00:00", "4:00:00"),
        ("launcher.memory=2Gi", "2Gi"),
        ('launcher.sbatch=["--mail-type=FAIL"]', ["--mail-type=FAIL"]),
        ("launcher.sbatch=--a,--b", ["--a", "--b"]),
        ('launcher.tolerations=[{key = "a"}]', [{"key": "a"}]),
        ('launcher.resources={a = 1, "b/c" = "d"}', {"a": 1, "b/c": "d"}),
        (("launcher.sbatch", ["--mail-type=FAIL"]), ["--mail-type=FAIL"]),
        (("launcher.gpus", 1), 1),
        (("launcher.resources", {"a": 1}), {"a": 1}),
    ],
    ids=str,
)
def test_settings_of_a_launcher_keep_their_type(setting: str | tuple[str, Any], value: Any) -> None:
    found = with_setting({}, setting, {})["launcher"]
    assert list(found.values()) == [value]
