"""Study files: the built-in one, a person's, and every way to get one wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_files import write_study

from search.errors import UsageError
from search.objectives.corpus import encode
from search.study.cell_checks import check_cells
from search.study.claims import Scalar
from search.study.definition import StudyDefinition, load_definition
from search.study.planner import Study
from search.study.study_file import builtin_studies

# model, pe_type, n_embd, block_size, train_loss, val_loss; the published table, baselines at the block size they had.
PUBLISHED = [
    ("bigram_v2", "rope", 64, 64, 2.25039, 2.32164),
    ("bigram_v2", "sinpe", 64, 64, 2.27057, 2.32952),
    ("bigram_v2", "rope", 64, 32, 2.27883, 2.34567),
    ("bigram_v2", "sinpe", 64, 32, 2.4103, 2.44508),
    ("bigram_v2", "sinpe", 64, 16, 2.42673, 2.45632),
    ("bigram_v2", "randn", 64, 32, 2.42835, 2.46541),
    ("bigram", None, None, 8, 2.45193, 2.48322),
    ("bigram_v2", "randn", 64, 64, 2.43593, 2.48389),
    ("bigram_v2", "rope", 128, 64, 2.46747, 2.48691),
    ("bigram_v2", "sinpe", 128, 64, 2.47422, 2.49168),
    ("bigram_v2", "rope", 256, 64, 2.47612, 2.49762),
    ("bigram_v2", "randn", 64, 16, 2.48728, 2.50837),
    ("bigram_v2", "rope", 64, 16, 2.48251, 2.50845),
    ("bigram_mf", None, 384, 8, 2.48206, 2.50986),
    ("bigram_v2", "rope", 128, 32, 2.48283, 2.51181),
]


def test_builtin_study_is_the_published_experiment() -> None:
    assert builtin_studies() == ["bigram", "bigram-rates", "bigram-tuned", "gpt", "gpt-scaling"]
    study = load_definition("bigram")
    cells = study.cells
    assert len(cells) == 36
    assert {cell["model"] for cell in cells} == {"bigram_v2"}
    assert {cell["pe_type"] for cell in cells} == {"randn", "sinpe", "rope"}
    assert {cell["n_embd"] for cell in cells} == {64, 128, 256}
    assert {cell["block_size"] for cell in cells} == {8, 16, 32, 64}
    assert study.baselines == [
        {"model": "bigram", "block_size": 8},
        {"model": "bigram_mf", "n_embd": 384, "block_size": 8},
    ]
    training = study.training
    assert (training.batch_size, training.learning_rate) == (64, 1e-2)
    assert (training.max_iters, training.eval_interval) == (5000, 500)
    assert (study.seeds, study.first_seed) == (1, 1337)
    assert (study.pruner.name, study.pruner.arguments) == ("top", {"warmup_steps": 500, "keep": 5})


def test_builtin_published_losses() -> None:
    study = load_definition("bigram")
    found = [
        (
            each.cell["model"],
            each.cell.get("pe_type"),
            each.cell.get("n_embd"),
            each.cell["block_size"],
            each.train_loss,
            each.val_loss,
        )
        for each in study.published
    ]
    assert found == PUBLISHED
    cells = [*study.cells, *study.baselines]
    assert all(each.cell in cells for each in study.published), "a published cell that is never trained"


def test_file_of_a_person_has_the_same_form(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "search" / "studies" / "bigram.toml").read_text(encoding="utf-8")
    assert load_definition(write_study(tmp_path, text, "bigram")) == load_definition("bigram")


def test_least_study_takes_its_name_from_the_file(tmp_path: Path) -> None:
    study = load_definition(write_study(tmp_path, "[grid]\nn_embd = [8]\n", "least.v2"))
    assert study == StudyDefinition(name="least.v2", grid={"n_embd": [8]})


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    assert load_definition(write_study(tmp_path, "\ufeff[grid]\nn_embd = [8]\n")).grid == {"n_embd": [8]}


def test_value_alone_is_an_axis_of_one_value(tmp_path: Path) -> None:
    text = '[grid]\nmodel = "my_models:TinyGRU"\nn_embd = 8\nlr = 0.5\nbias = true\nheads = [1, 2]\n'
    study = load_definition(write_study(tmp_path, text))
    assert study.grid == {"model": ["my_models:TinyGRU"], "n_embd": [8], "lr": [0.5], "bias": [True], "heads": [1, 2]}
    assert load_definition(write_study(tmp_path, text), ["n_embd=8,16"]).grid["n_embd"] == [8, 16]


@pytest.mark.parametrize(
    ("corpus", "path"), [("text.txt", "{folder}/text.txt"), ("/else/where.txt", "/else/where.txt")]
)
def test_corpus_of_a_file_is_looked_for_beside_it(tmp_path: Path, corpus: str, path: str) -> None:
    file = write_study(tmp_path, f'corpus = "{corpus}"\n{GRID}')
    assert load_definition(file).corpus == path.format(folder=tmp_path)


# What stands in the file, and what the message says after the file's name. GRID is a sound grid.
GRID = "[grid]\nn_embd = [8]\n"
FAULTS = {
    "misspelt at the top": ("sedes = 2\n" + GRID, "unknown key 'sedes' (did you mean 'seeds'?); choices: name, desc"),
    "misspelt in training": (
        GRID + "[training]\nmax_iter = 2",
        "'training.max_iter' (did you mean 'max_iters'?); choi",
    ),
    "misspelt in pruner": (
        GRID + "[pruner]\nwarmup = 2",
        "'pruner.warmup' (did you mean 'warmup_steps'?); choices: na",
    ),
    "misspelt in workers": (
        GRID + "[workers]\nlease = 2",
        "'workers.lease' (did you mean 'lease_s'?); choices: lease_",
    ),
    "misspelt in published": (
        GRID + "[[published]]\ncell = {n_embd = 8}\nval_los = 2.0",
        "unknown key 'published.0.val_los' (did you mean 'val_loss'?); choices: cell, val_loss, train_loss",
    ),
    "no grid": ("seeds = 2", "grid is missing"),
    "empty grid": ("[grid]", "grid is missing: give it at least one axis, or trials = N for"),
    "grid no table": ("grid = 3", "grid = 3: write a table"),
    "training no table": ("training = 3\n" + GRID, "training = 3: write a table"),
    "empty axis": ("[grid]\nn_embd = []", "the axis n_embd is empty; give it at least one value"),
    "axis no list": ("[grid]\nn_embd = 2024-01-01", "write a list, such as [64, 128]"),
    "value alone that is nan": ("[grid]\nlr = nan", "grid.lr.0 = nan: write a finite number, a text, true or false"),
    "corpus no text": ("corpus = 3\n" + GRID, "corpus = 3: it should be a valid string"),
    "axis of lists of dates": (
        "[grid]\nn_embd = [[2024-01-01]]",
        "grid.n_embd.0 = [datetime.date(2024, 1, 1)]: write a",
    ),
    "axis of dates": ("[grid]\nn_embd = [2024-01-01]", "write a finite number, a text, true or false"),
    "axis with nan": ("[grid]\nlr = [nan]", "grid.lr.0 = nan: write a finite number, a text, true or false"),
    "value twice": ("[grid]\nn_embd = [64, 64]", "the axis n_embd = [64, 64] has a value twice"),
    "equal values": (
        "[grid]\nx = [1, true]",
        "the axis x = [1, True] has true and 1, or false and 0: Optuna takes them for one value",
    ),
    "axis named seed": ("[grid]\nseed = [1, 2]", "seed is not an axis; write seeds = N"),
    "axis with a space": (
        '[grid]\n"n embd" = [1]',
        "'n embd' is not a valid name of an axis; write letters, digits and '_'",
    ),
    "no seeds": ("seeds = 0\n" + GRID, "seeds = 0: it should be greater than or equal to 1"),
    "too many seeds": ("seeds = 100000\n" + GRID, "seeds = 100000: it should be less than or equal to 1000"),
    "seeds a text": ('seeds = "3"\n' + GRID, "seeds = '3': write an integer, or \"auto\""),
    "seeds true": ("seeds = true\n" + GRID, "seeds = True: it should be a valid integer"),
    "negative seed": ("first_seed = -1\n" + GRID, "first_seed = -1: it should be greater than or equal to 0"),
    "seed too large": ("first_seed = 2147483647\n" + GRID, "first_seed = 2147483647: it should be less than"),
    "zero steps": (GRID + "[training]\nmax_iters = 0", "training.max_iters = 0: it should be greater than 0"),
    "negative rate": (GRID + "[training]\nlearning_rate = -1.0", "training.learning_rate = -1.0: it should be greater"),
    "rate nan": (
        GRID + "[training]\nlearning_rate = nan",
        "training.learning_rate = nan: it should be a finite number",
    ),
    "steps a text": (GRID + '[training]\nmax_iters = "5"', "training.max_iters = '5': it should be a valid integer"),
    "evaluation": (
        GRID + '[training]\nevaluation = "fast"',
        "training.evaluation = 'fast': it should be 'full' or 'sam",
    ),
    "min_trials a text": (GRID + '[pruner]\nmin_trials = "4"', "pruner.min_trials = '4': it should be a valid integer"),
    "lease zero": (GRID + "[workers]\nlease_s = 0", "workers.lease_s = 0: it should be greater than 0"),
    "lease infinite": (GRID + "[workers]\nlease_s = inf", "workers.lease_s = inf: it should be a finite number"),
    "no published loss": (GRID + "[[published]]\ncell = {n_embd = 8}", "published.0.val_loss is missing"),
    "published no list": (GRID + "[published]\nval_loss = 1.0", "published = {'val_loss': 1.0}: write [[published]]"),
    "baseline of lists": (GRID + "[[baselines]]\nn_embd = [8]", "baselines.0.n_embd = [8]: write a finite number"),
    "baseline twice": (
        GRID + "[[baselines]]\nx = 8\n[[baselines]]\nx = 8",
        "baselines.1 = {'x': 8} occurs twice; remove one",
    ),
    "baseline seed": (GRID + "[[baselines]]\nseed = 8", "seed is not an axis"),
    "empty baseline": (GRID + "[[baselines]]", "baselines.0 is empty"),
    "bad name": ('name = "../up"\n' + GRID, "name = '../up': write letters, digits, '.', '_' and '-', the first a"),
    "long name": (f'name = "{"x" * 201}"\n{GRID}', "it has 201 characters; at most 200 are allowed"),
    "name of a sibling": (
        'name = "a-baselines"\n' + GRID,
        "names that end in -baselines are reserved for the baselines",
    ),
    "objective": ('objective = "train.py"\n' + GRID, "objective = 'train.py': write MODULE:FUNCTION"),
    "description": ("description = 3\n" + GRID, "description = 3: it should be a valid string"),
    "not TOML": ("[grid\n", " is not valid TOML: Expected ']'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_a_study_file(tmp_path: Path, fault: str) -> None:
    text, said = FAULTS[fault]
    file = write_study(tmp_path, text)
    with pytest.raises(UsageError, match=f"^{re.escape(file)}.*{re.escape(said)}") as caught:
        load_definition(file)
    assert "\n" not in str(caught.value)


def test_file_name_that_is_no_study_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"name = 'my study': write letters.*a file without name"):
        load_definition(write_study(tmp_path, GRID, "my study"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    folder, latin = tmp_path / "folder.toml", tmp_path / "latin.toml"
    folder.mkdir()
    latin.write_bytes(b"# caf\xe9\n")
    with pytest.raises(UsageError, match=r"cannot read the study file .*folder\.toml: Is a directory; check the path"):
        load_definition(str(folder))
    with pytest.raises(UsageError, match=r"cannot read the study file .*latin\.toml: it is not UTF-8 text"):
        load_definition(str(latin))
    with pytest.raises(UsageError, match=r"absent\.toml: No such file or directory; .*a built-in study: bigram"):
        load_definition(str(tmp_path / "absent.toml"))


@pytest.mark.parametrize("name", ["nope", "", ".", "bigram.tml"])
def test_unknown_study(name: str) -> None:
    choices = "bigram, bigram-rates, bigram-tuned, gpt, gpt-scaling"
    with pytest.raises(UsageError, match=rf"unknown study '{name}'; built-in studies: {choices}; or give the path"):
        load_definition(name)


CELL_FAULTS = {
    "unknown model": ("model=bigram_v3", "unknown model 'bigram_v3': choose one of bigram, bigram_mf, bigram_v2"),
    "unknown argument": ("pe_type=cosine", "unknown pe_type 'cosine': choose one of randn, sinpe, rope"),
    "argument out of range": ("n_embd=0", "n_embd=0"),
    "block size": ("block_size=0", "block_size=0 is below 1"),
    "too long a window": ("block_size=5000", "too short for block_size=5000"),
    "wrong type": ("block_size=8.5", "block_size=8.5: give a value of type int"),
}


@pytest.mark.parametrize("fault", CELL_FAULTS)
def test_cell_that_could_never_be_trained(fault: str) -> None:
    setting, said = CELL_FAULTS[fault]
    study = Study(load_definition("bigram", [setting]), "bigram", encode("text", "to be or not " * 200))
    with pytest.raises((ValueError, RuntimeError), match=re.escape(said)):
        check_cells(study)


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ('model = ["bigram_v2"]\nblock_size = [8]', "model 'bigram_v2' needs n_embd: give each a value"),
        (
            'model = ["bigram"]\nblock_size = [8]\nwidth = [8]',
            "neither model 'bigram' nor its training takes width: the model takes",
        ),
        ('model = ["bigram"]', "has no block_size, which the objective language_model needs"),
    ],
)
def test_model_argument_missing_or_unknown(tmp_path: Path, grid: str, said: str) -> None:
    definition = load_definition(write_study(tmp_path, f"[grid]\n{grid}\n"))
    with pytest.raises((ValueError, RuntimeError), match=re.escape(said)):
        check_cells(Study(definition, "small", encode("text", "to be or not " * 200)))


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ("nowhere:start", r"objective = 'nowhere:start': no module 'nowhere' on the Python path"),
        (
            "fake_objective:begin",
            r"objective = 'fake_objective:begin': the module 'fake_objective' has no function 'begin'",
        ),
    ],
)
def test_objective_that_is_not_there(tmp_path: Path, objective: str, said: str) -> None:
    definition = load_definition(write_study(tmp_path, f'objective = "{objective}"\n{GRID}'))
    with pytest.raises(UsageError, match=said):
        check_cells(Study(definition, "small", encode("text", "to be or not")))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("3.0", 3.0),
        ("1e-3", 1e-3),
        ("true", True),
        ("False", False),
        ("rope", "rope"),
        ("a=b", "a=b"),
        (" 3 ", 3),
        ("models.mine:Net", "models.mine:Net"),
    ],
)
def test_set_reads_a_value(tmp_path: Path, text: str, value: Scalar) -> None:
    [read] = load_definition(write_study(tmp_path, GRID), [f"n_embd={text}"]).grid["n_embd"]
    assert (read, type(read)) == (value, type(value))


def test_set_reaches_axes_and_each_section(tmp_path: Path) -> None:
    settings = ["n_embd = 64, 128", "max_iters=200", "evaluation=sampled", "warmup_steps=0", "lease_s=5"]
    settings += ["first_seed=7"]
    study = load_definition(write_study(tmp_path, GRID), settings)
    assert study.grid == {"n_embd": [64, 128]}
    assert (study.training.max_iters, study.training.evaluation) == (200, "sampled")
    assert (study.pruner.arguments["warmup_steps"], study.workers.lease_s, study.first_seed) == (0, 5.0, 7)


def test_set_takes_keys_as_messages_name_them(tmp_path: Path) -> None:
    settings = ["grid.n_embd=64,128", "training.max_iters=200", "pruner.keep=3", "workers.lease_s=5"]
    study = load_definition(write_study(tmp_path, GRID), settings)
    assert study.grid == {"n_embd": [64, 128]}
    assert (study.training.max_iters, study.pruner.arguments["keep"], study.workers.lease_s) == (200, 3, 5.0)
    ranged = f'sampler = "random"\ntrials = 3\n{GRID}[axes.learning_rate]\nlow = 0.01\nhigh = 0.1\n'
    study = load_definition(write_study(tmp_path, ranged), ["axes.learning_rate=0.1,0.2"])
    assert {**study.grid, **study.axes}["learning_rate"] == [0.1, 0.2]


def test_the_last_set_of_a_key_counts_and_baselines_stay() -> None:
    study = load_definition("bigram", ["n_embd=1", "n_embd=2", "block_size=4"])
    assert study.grid["n_embd"] == [2]
    assert study.baselines == load_definition("bigram").baselines


def test_a_training_setting_with_several_values_is_a_further_axis(tmp_path: Path) -> None:
    for setting in ("learning_rate=1e-2,1e-3", ("learning_rate", [1e-2, 1e-3])):
        study = load_definition(write_study(tmp_path, GRID), [setting, "schedule=constant,cosine"])
        assert study.grid == {"n_embd": [8], "learning_rate": [0.01, 0.001], "schedule": ["constant", "cosine"]}
        assert len(study.cells) == 4


SET_FAULTS = {
    "n_emb=64": r"unknown key 'n_emb' \(did you mean 'n_embd'\?\); axes: n_embd; settings: .*keep_artifacts, .*_flops$",
    "n_embd": r"write KEY=VALUE or KEY=VALUE,VALUE, such as --set n_embd=64,128",
    "=3": r"write KEY=VALUE",
    "n_embd=": r"write KEY=VALUE",
    "n_embd=64,": r"write KEY=VALUE",
    "n_embd=64,64": r"the axis n_embd = \[64, 64\] has a value twice",
    "n_embd=nan": r"grid\.n_embd\.0 = nan: write a finite number",
    "lease_s=1,2": r"lease_s is not an axis and takes one value",
    "max_iters=abc": r"training\.max_iters = 'abc': it should be a valid integer",
    "max_iters=1.5": r"training\.max_iters = 1\.5: it should be a valid integer",
    "max_iters=-5": r"training\.max_iters = -5: it should be greater than 0",
    "evaluation=fast": r"training\.evaluation = 'fast': it should be 'full' or 'sampled'",
    "first_seed=1,2": r"first_seed is not an axis and takes one value",
    "first_seed=-1": r"first_seed = -1: it should be greater than or equal to 0",
    "first_seed=x": r"first_seed = 'x': it should be a valid integer",
    "keep=0": r"pruner\.keep = 0: it should be greater than or equal to 1",
    "min_trials=0": r"pruner\.min_trials = 0: it should be greater than or equal to 1",
    "name=other": r"unknown key 'name'",
    "training.lease_s=5": r"unknown key 'training\.lease_s'",
    "workers.n_embd=5": r"unknown key 'workers\.n_embd'",
    "workers.leas_s=5": r"unknown key 'workers\.leas_s' \(did you mean 'lease_s'\?\)",
    "pruner.name=top": r"unknown key 'pruner\.name'",
    "grid.first_seed=5": r"unknown key 'grid\.first_seed'",
}


@pytest.mark.parametrize("setting", SET_FAULTS)
def test_fault_in_a_setting(tmp_path: Path, setting: str) -> None:
    with pytest.raises(UsageError, match=f"^--set {re.escape(setting)}: {SET_FAULTS[setting]}"):
        load_definition(write_study(tmp_path, GRID), [setting])


def test_fault_of_the_file_is_not_blamed_on_a_setting(tmp_path: Path) -> None:
    file = write_study(tmp_path, "grid = 3")
    with pytest.raises(UsageError, match=f"^{re.escape(file)}: grid = 3"):
        load_definition(file, ["n_embd=64"])


words = st.text("abcdefghijklmnopqrstuvwxyz_:.", min_size=1).filter(lambda word: word not in ("nan", "inf", "infinity"))
scalars = st.one_of(
    st.integers(-(10**12), 10**12), st.booleans(), words, st.floats(allow_nan=False, allow_infinity=False)
).filter(lambda value: not isinstance(value, str) or value not in ("true", "false"))


@given(st.lists(scalars, min_size=1, max_size=5, unique=True))
def test_set_round_trip(values: list[Scalar]) -> None:
    study = load_definition("bigram", ["n_embd=" + ",".join(map(str, values))])
    assert [(value, type(value)) for value in study.grid["n_embd"]] == [(value, type(value)) for value in values]
