"""Commands: how they are written, what their programs' lines say, and how a program ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from gates import wait_until

from search.objectives.command import supervisor
from search.objectives.command.command_run import _announce
from search.objectives.command.metric_lines import GrowingFile, pattern_row, plain_row
from search.objectives.command.metrics import Metrics
from search.objectives.command.objective import CommandObjective, sources
from search.objectives.command.output import LOG, last_lines, shortened_log
from search.objectives.command.program import Program, program_environment
from search.objectives.command.settings import CommandSettings
from search.objectives.command.supervisor import STILL_RUNS
from search.objectives.command.template import command_line
from search.objectives.errors import ObjectiveError
from search.objectives.protocol import Attempt, Evaluation
from search.objectives.settings import read_settings
from search.workers.trial_errors import is_transient

NANO = r"step (?P<step>\d+): train loss (?P<train_loss>\S+), val loss (?P<val_loss>\S+)"


def settings_of(command: Any = "python train.py", **others: Any) -> CommandSettings:
    found = read_settings(CommandSettings, {"command": command, **others})
    assert isinstance(found, CommandSettings)
    return found


VALUES = {"lr": 0.001, "name": "a b", "big": True, "seed": 7, "folder": Path("/out/x y")}


@pytest.mark.parametrize(
    ("command", "others", "expected"),
    [
        ("python t.py --lr={lr} --out={folder}", {}, ["python", "t.py", "--lr=0.001", "--out=/out/x y"]),
        ("t --lr={lr?} --layers={layers?} {{?}}", {}, ["t", "--lr=0.001", "{?}"]),
        (["t", "--n", "{name}", "a b"], {}, ["t", "--n", "a b", "a b"]),
        ("t '{name} {{lr}}' {lr:.1e} {big}", {}, ["t", "a b {lr}", "1.0e-03", "True"]),
        ("cd x && t {name} ${{HOME}} | tee l", {"shell": True}, ["/bin/sh", "-c", "cd x && t 'a b' ${HOME} | tee l"]),
    ],
)
def test_a_command_is_filled(command: Any, others: dict[str, Any], expected: list[str]) -> None:
    assert command_line(settings_of(command, **others), VALUES, resumes=False) == expected


def test_a_command_resumes() -> None:
    settings = settings_of("t {seed}", resume="--from=resume --at '{folder}'")
    assert command_line(settings, VALUES, resumes=True) == ["t", "7", "--from=resume", "--at", "/out/x y"]
    in_shell = settings.model_copy(update={"shell": True})
    assert command_line(in_shell, VALUES, resumes=True)[-1] == "t 7 --from=resume --at '/out/x y'"


@pytest.mark.parametrize(
    ("command", "others", "message"),
    [
        (
            "t",
            {"patern": "x"},
            r"^settings: unknown setting 'patern' .did you mean 'pattern'.* \(settings are command, shell, resume, ",
        ),
        ("t 'a", {}, "command.*: No closing quotation"),
        ("", {}, "the command is empty"),
        (["t"], {"shell": True}, "shell = true takes the command as one text"),
        ("t", {"pattern": "loss ("}, "no regular expression: missing \\)"),
        ("t", {"pattern": r"loss (\S+)"}, "needs a named group"),
        ("t", {"grace_s": 60}, "grace_s=60: .*15"),
        ("t", {"keep": "/tmp/*.pt"}, "'/tmp/\\*.pt' is no file of the trial's folder; write its path in it"),
        ("t", {"keep": ["a", ""]}, "'' is no file of the trial's folder"),
        ("t", {"keep": ["../a"]}, "'../a' is no file of the trial's folder"),
    ],
)
def test_wrong_settings(command: Any, others: dict[str, Any], message: str) -> None:
    with pytest.raises(ObjectiveError, match=message):
        settings_of(command, **others)


@pytest.mark.parametrize(
    ("command", "cell", "message"),
    [
        (
            "python train.py --lr={learning_rat}",
            {"learning_rate": 1},
            r"unknown placeholder \{learning_rat\} .did you mean",
        ),
        ("python train.py {x", {}, r"expected '}' before end of string in '\{x'"),
        ("python train.py {x:d}", {"x": 0.5}, r"\{x:d\} with 0.5: Unknown format code"),
        ("python train.py {x!r}", {"x": 0.5}, r"unknown placeholder \{x\}"),
        ("pithon train.py", {}, "the program 'pithon' is not on the PATH"),
        ("./train", {}, "the program './train' is not on the PATH"),
        ("python trian.py", {}, r"there is no file 'trian.py' in /"),
        ("python train.py", {"seed": 3}, r"\{seed\} is not an axis.*rename the axis seed"),
    ],
)
def test_checked_before_anything_is_planned(tmp_path: Path, command: str, cell: dict[str, Any], message: str) -> None:
    (tmp_path / "train.py").touch()
    with pytest.raises(ObjectiveError, match=message):
        CommandObjective(tmp_path).check_cell(cell, settings_of(command.replace("python", sys.executable)), None)


@pytest.mark.parametrize(
    "command", ["./docker run image python /work/train.py", "env A=1 ./docker exec box sh none.sh"]
)
def test_a_script_of_another_place_is_not_looked_for(tmp_path: Path, command: str) -> None:
    (tmp_path / "docker").touch(0o755)
    CommandObjective(tmp_path).check_cell({}, settings_of(command), None)


def test_a_script_that_is_not_executable(tmp_path: Path) -> None:
    for name, interpreter in (("train.py", "python"), ("a job.sh", "bash")):
        (tmp_path / name).touch()
        with pytest.raises(ObjectiveError, match=rf"chmod \+x .*/{name}'?, or .* such as {interpreter} '?\./{name}"):
            CommandObjective(tmp_path).check_cell({}, settings_of([f"./{name}"]), None)
        (tmp_path / name).chmod(0o755)
        CommandObjective(tmp_path).check_cell({}, settings_of([f"./{name}"]), None)


@pytest.mark.parametrize(
    ("command", "others", "message"),
    [
        ("t --lr={lr}", {}, r"never uses the axis n, .* such as --n=\{n\}; .* env SEARCH_PARAM_N=\{n\} …"),
        (["t", "{lr}", "{{n}}"], {}, "never uses the axis n"),
        ("t {lr} {n}", {"pattern": r"a (?P<acc>\d)"}, r"the groups acc, but not 'loss'.* metric = .acc."),
        ("t {lr} {n?} {n:d}", {"pattern": [r"a (?P<acc>\d)", r"(?P<loss>\d)"]}, None),
        ("t $SEARCH_PARAM_N ${{SEARCH_PARAM_LR}}", {"shell": True}, None),
        ("t reads.py", {}, None),
    ],
)
def test_axes_and_metrics_of_a_command(
    tmp_path: Path, command: Any, others: dict[str, Any], message: str | None
) -> None:
    (tmp_path / "reads.py").write_text("os.environ['SEARCH_PARAM_' + name]")
    objective, settings = CommandObjective(tmp_path), settings_of(command, **others)
    with nullcontext() if message is None else pytest.raises(ObjectiveError, match=message):
        objective.check_study(["lr", "n"], ["loss"], settings)
    if "pattern" in others:
        with pytest.raises(ObjectiveError, match=r"but not 'f1', by which the study ranks; add \(\?P<f1>…\)$"):
            objective.check_study(["lr", "n"], ["acc", "f1"], settings)


def test_its_scripts_belong_to_the_record(tmp_path: Path) -> None:
    for name in ("train.py", "conf.yaml"):
        (tmp_path / name).touch()
    command = {"command": "python -u train.py {x} conf.yaml --new=conf.yaml none.py"}
    assert sources(command, tmp_path) == [tmp_path / "train.py", tmp_path / "conf.yaml"]
    assert sources({}, tmp_path) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"step": 3, "val_loss": 0.5, "name": "x", "ok": true}', {"step": 3, "val_loss": 0.5}),
        ('{"step": 3, "val_loss": NaN}', {"step": 3, "val_loss": "nan"}),
        ("step=3 val_loss=2.5e-1, lr: 1e-3", {"step": 3, "val_loss": 0.25, "lr": 0.001}),
        ("Epoch: 2  acc : .5 val/loss=nan", {"Epoch": 2, "acc": 0.5, "val/loss": "nan"}),
        (
            "step: 1,000 reward: -1,234.5 val_loss=1,234,567 at=1,5 of=12,34",
            {"step": 1000, "reward": -1234.5, "val_loss": 1234567},
        ),
        ("epoch:  14%|## | 1/7 [00:00, val_loss=0.95] acc: 95.3%", {"val_loss": 0.95, "acc": 95.3}),
        ('{"step": 1, "n": 1' + "0" * 400 + "}", {"step": 1}),
        ("12:30:45 time=12ms at http://x:80/ v=1.2.3 --lr=0.1 {broken", {}),
    ],
)
def test_lines(line: str, expected: dict[str, Any]) -> None:
    found = plain_row(line)
    assert {name: "nan" if value != value else value for name, value in found.items()} == expected


def test_patterns() -> None:
    parse = pattern_row(settings_of(pattern=[NANO, r"acc (?P<acc>\S+)"]).patterns)
    assert parse("step 250: train loss 2.1, val loss 2.3") == {"step": 250, "train_loss": 2.1, "val_loss": 2.3}
    assert parse("acc 0.5; step 2") == {"acc": 0.5}
    assert parse("acc 1,234.5, acc") == {"acc": 1234.5}
    assert parse("acc 1,2") == {}
    assert parse("acc high") == {}


def test_a_growing_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("of an earlier attempt\n")
    reader = GrowingFile(path)
    assert reader.lines(to_the_end=False) == []
    with path.open("a") as file:
        print("one\rtwo\nthr", end="", file=file, flush=True)
        assert reader.lines(to_the_end=False) == ["one", "two"]
        print("ee\r\n\nfour", end="", file=file)
    assert reader.lines(to_the_end=True) == ["three", "four"]
    path.write_text("written anew\n")
    assert reader.lines(to_the_end=False) == ["written anew"]
    path.write_text("written anew, longer than before\n")
    assert reader.lines(to_the_end=False) == ["written anew, longer than before"]


def test_the_first_source_with_the_metric_counts(tmp_path: Path) -> None:
    metrics = Metrics(settings_of(), "loss", tmp_path)
    with (tmp_path / LOG).open("a") as log, (tmp_path / "metrics.jsonl").open("a") as file:
        print("step=1 lr=0.1", file=log, flush=True)
        assert metrics.read(to_the_end=False) == []
        assert metrics.has_grown
        print(json.dumps({"step": 1, "train": 3}), file=file)
        print(json.dumps({"step": 1, "loss": 2}), json.dumps({"step": 1, "loss": 9}), sep="\n", file=file, flush=True)
        print("step=5 loss=7", file=log, flush=True)
        assert metrics.read(to_the_end=True) == [(1, {"lr": 0.1, "train": 3, "loss": 2})]
    assert metrics.at_the_end("it", tmp_path / LOG) is None


@pytest.mark.parametrize(
    ("lines", "others", "expected"),
    [
        (["epoch=1 loss=3", "epoch=2 loss=2"], {}, [(1, {"loss": 3}), (2, {"loss": 2})]),
        (['{"loss": 3, "Iteration": 1}', '{"loss": 2, "Iteration": 2}'], {}, [(1, {"loss": 3}), (2, {"loss": 2})]),
        (["epoch=1 step=50 loss=3"], {}, [(50, {"epoch": 1, "loss": 3})]),
        (["epoch=1 step=50 loss=3"], {"step": "epoch"}, [(1, {"step": 50, "loss": 3})]),
        (["step=50 train=9", "epoch=1 loss=3", "step=99 train=8", "epoch=2 loss=2"], {},
         [(1, {"loss": 3}), (2, {"loss": 2})]),
        (["epoch=0.1 loss=3", "epoch=1.0 loss=2"], {}, []),
        (["epoch=0.5 train=9", "epoch=1.0 loss=3", "epoch=1.5 train=8", "epoch=2.0 loss=2"], {},
         [(1, {"loss": 3}), (2, {"loss": 2})]),
        (["at 3 loss=2"], {"pattern": [r"at (?P<epoch>\d)", r"loss=(?P<loss>\d)"]}, [(3, {"loss": 2})]),
    ],
)  # fmt: skip
def test_the_step_has_one_of_the_usual_names(
    tmp_path: Path, lines: list[str], others: dict[str, Any], expected: list[tuple[int, dict[str, float]]]
) -> None:
    metrics = Metrics(settings_of(**others), "loss", tmp_path)
    (tmp_path / LOG).write_text("\n".join(lines))
    assert metrics.read(to_the_end=True) == expected
    goes_on = Metrics(settings_of(**others), "loss", tmp_path)
    assert goes_on.read(to_the_end=True) == expected


def test_metrics_on_further_lines_of_a_step(tmp_path: Path) -> None:
    one, two = Metrics(settings_of(), "loss", tmp_path), Metrics(settings_of(), "loss", tmp_path, ["acc"])
    lines = ["step=1 loss=3", "step=1 acc=0.5", "step=1 acc=0.7", "step=2 loss=2", "step=3 acc=0.9 loss=1"]
    found: dict[Metrics, list[Any]] = {one: [], two: []}
    for line in lines:
        with (tmp_path / LOG).open("a") as log:
            print(line, file=log)
        for metrics, seen in found.items():
            seen += [*metrics.read(to_the_end=line == lines[-1]), *metrics.take_late().items()]
    assert found[one] == [(1, {"loss": 3}), (1, {"acc": 0.5}), (2, {"loss": 2}), (3, {"acc": 0.9, "loss": 1})]
    # The second metric of the study is not there in time for step 2.
    assert found[two] == [(1, {"loss": 3, "acc": 0.5}), (2, {"loss": 2}), (3, {"acc": 0.9, "loss": 1})]
    goes_on = Metrics(settings_of(), "loss", tmp_path)
    assert goes_on.read(to_the_end=True)[0] == (1, {"loss": 3, "acc": 0.7})


def test_a_metric_that_is_repeated_at_its_step_counts_once(tmp_path: Path) -> None:
    metrics = Metrics(settings_of(), "loss", tmp_path)
    (tmp_path / LOG).write_text("step=9 loss=3\nstep=5 train=1\nstep=9 loss=2 acc=0.5\n")
    assert metrics.read(to_the_end=True) == [(9, {"loss": 3})]
    assert metrics.take_late() == {9: {"acc": 0.5}}


def test_steps_that_start_again(tmp_path: Path) -> None:
    metrics = Metrics(settings_of(), "loss", tmp_path)
    (tmp_path / LOG).write_text("fold: 1\nepoch=1 loss=3\nepoch=2 loss=3\nfold: 2\nepoch=1 loss=2\n")
    with pytest.raises(ObjectiveError, match=r'prints epoch = 1 after epoch = 2; .* step = "" for a program without'):
        metrics.read(to_the_end=True)
    metrics = Metrics(settings_of(), "loss", tmp_path)
    (tmp_path / LOG).write_text("epoch=1 iter=100 loss=3\nepoch=1 iter=100 loss=3\nepoch=2 iter=100 loss=2\n")
    with pytest.raises(ObjectiveError, match=r"prints iter = 100 after iter = 100; steps must increase: name another"):
        metrics.read(to_the_end=True)


def test_a_program_that_goes_on_has_its_earlier_metrics(tmp_path: Path) -> None:
    log = tmp_path / LOG
    log.write_text("step=0 loss=9\nstep=1 loss=8\nstep=2 loss=7\nloss=6\n--- attempt 2\nstep=1 loss=5\n")
    again, at_its_end, ended = (Metrics(settings_of(), "loss", tmp_path) for _ in range(3))
    assert ended.read(to_the_end=True) == [(0, {"loss": 9}), (1, {"loss": 5}), (2, {"loss": 7})]
    assert ended.at_the_end("it", log) is None
    with log.open("a") as file:
        file.write("step=2 loss=4\n")
    assert again.read(to_the_end=False) == [(0, {"loss": 9}), (1, {"loss": 5}), (2, {"loss": 4})]
    with log.open("a") as file:
        file.write("step=3 loss=3\n")
    assert again.read(to_the_end=False) == [(3, {"loss": 3})]
    log.write_text("a new file: loss=2\n")
    assert at_its_end.read(to_the_end=True) == []
    assert at_its_end.at_the_end("it", log) == Evaluation(1, 2.0)


@pytest.mark.parametrize(
    ("output", "others", "expected"),
    [
        ("loss=3\nloss=2 acc=0.5\n", {}, Evaluation(1, 2.0, {"acc": 0.5})),
        ("los=3 acc=4\n", {}, r"it gives the metrics los, acc, but not 'loss'.*metric = .los."),
        ("nothing\n", {}, r"gave no metric: .*metrics.jsonl.*step=1 loss=0.5.*pattern.*output.log"),
        ("nothing\n", {"pattern": r"l (?P<loss>\d)"}, r"no line .* matches the pattern .*the last is nothing"),
        ("step=0.5 loss=1\n", {}, Evaluation(1, 1.0, {"step": 0.5})),
        ("step=0.5 loss=1\n", {"step": "step"}, r"the step step = 0.5 is no whole number"),
        ("epoch=3 loss=1\n", {"step": ""}, Evaluation(1, 1.0, {"epoch": 3})),
        ("", {"pattern": r"(?P<los>\d)"}, r"the pattern has the groups los, but not 'loss'.*metric = .los."),
    ],
)
def test_at_the_end(tmp_path: Path, output: str, others: dict[str, Any], expected: Any) -> None:
    def read() -> Evaluation | None:
        metrics = Metrics(settings_of(**others), "loss", tmp_path)
        (tmp_path / LOG).write_text(output)
        assert metrics.read(to_the_end=True) == []
        return metrics.at_the_end("it", tmp_path / LOG)

    if isinstance(expected, str):
        with pytest.raises(ObjectiveError, match=expected):
            read()
    else:
        assert read() == expected


def test_a_long_log_is_shortened(tmp_path: Path) -> None:
    path = tmp_path / LOG
    path.write_text("--- attempt 1: x\nold\n--- attempt 2: x\n" + "a" * 2_000_000 + "\nlast\n\n")
    kept = shortened_log(path).decode()
    assert len(kept) < 1_001_000
    assert "bytes are left out here; all of it is in" in kept
    assert last_lines(path)[-1] == "last"
    path.write_text("--- attempt 1: x\nold\n--- attempt 2: x\nnew\n")
    assert last_lines(path) == ["new"]


def test_nothing_of_the_database_is_in_the_environment() -> None:
    url = "postgresql://me:secret@host/search"
    worker = {"SEARCH_STORAGE": url, "SEARCH_PASSWORD_FILE": "/f", "PGPASSWORD": "secret", "POSTGRES_PASSWORD": "s",
              "MY_URL": f"x {url}", "HOME": "/h", "CUDA_VISIBLE_DEVICES": "4,6"}  # fmt: skip
    found = program_environment(worker, {"SEARCH_SEED": "7"}, {"WANDB_MODE": "offline"}, "cuda:1")
    assert found == {"HOME": "/h", "CUDA_VISIBLE_DEVICES": "6", "PYTHONUNBUFFERED": "1", "SEARCH_SEED": "7",
                     "WANDB_MODE": "offline"}  # fmt: skip
    assert program_environment({}, {}, {}, "cuda:2")["CUDA_VISIBLE_DEVICES"] == "2"
    rocm = {"HIP_VISIBLE_DEVICES": "4,6", "CUDA_VISIBLE_DEVICES": "1"}
    assert program_environment(rocm, {}, {}, "cuda:1")["HIP_VISIBLE_DEVICES"] == "6"


# It has a child in its group, one in a session of its own, and an orphan; with `deaf` none heeds SIGTERM.
FAMILY = """
import os, signal, subprocess, sys, time
deaf = sys.argv[2] == "deaf"
wait = f"import signal, time; {'signal.signal(signal.SIGTERM, signal.SIG_IGN)' if deaf else 'pass'}; time.sleep(600)"
orphan = "import subprocess, sys; start = subprocess.Popen; "
orphan += f"print(start([sys.executable, '-c', {wait!r}], start_new_session=True, stdout=-3, stderr=-3).pid)"
pids = [subprocess.Popen([sys.executable, "-c", wait], start_new_session=own).pid for own in (False, True)]
pids.append(int(subprocess.run([sys.executable, "-c", orphan], capture_output=True).stdout))
if deaf:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1] + ".new", "w") as file:
    print(os.getpid(), *pids, file=file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600 if sys.argv[3] == "wait" else 0)
"""


def start_family(folder: Path, *how: str, grace_s: float = 0.5) -> Program:
    command = [sys.executable, "-c", FAMILY, str(folder / "pids"), *how]
    return Program(command, folder, os.environ, folder / LOG, folder / "lock", grace_s)


def alive(folder: Path) -> set[int]:
    pids = {int(pid) for pid in (folder / "pids").read_text().split()}
    return {pid for pid in pids if _state(pid) not in ("Z", "")}


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.mark.parametrize("how", ["deaf", "heeding"])
def test_a_stopped_program_is_gone_with_all_its_descendants(tmp_path: Path, how: str) -> None:
    program = start_family(tmp_path, how, "wait")
    wait_until((tmp_path / "pids").exists, "the family")
    assert len(alive(tmp_path)) == 4
    program.stop()
    assert alive(tmp_path) == set()
    assert program.status == (-signal.SIGKILL if how == "deaf" else -signal.SIGTERM)


def test_a_program_that_ends_leaves_nothing(tmp_path: Path) -> None:
    program = start_family(tmp_path, "heeding", "end")
    wait_until(program.has_ended, "the end of the program")
    assert (program.status, alive(tmp_path)) == (0, set())


# A worker that starts a program and waits to be killed.
WORKER = """
import os, sys, time
from pathlib import Path
from search.objectives.command.program import Program
command, folder = sys.argv[2:], Path(sys.argv[1])
Program(command, folder, os.environ, folder / "output.log", folder / "lock", 0.2)
time.sleep(600)
"""


def test_nothing_outlives_a_killed_worker_and_the_next_attempt_waits(tmp_path: Path) -> None:
    family = [sys.executable, "-c", FAMILY, str(tmp_path / "pids"), "deaf", "wait"]
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path), *family])
    wait_until((tmp_path / "pids").exists, "the family")
    worker.kill()
    worker.wait()
    count = "import sys, os; print(sum(os.path.exists(f'/proc/{pid}') for pid in sys.argv[1:]))"
    pids = (tmp_path / "pids").read_text().split()
    again = Program(
        [sys.executable, "-c", count, *pids], tmp_path, os.environ, tmp_path / "2.log", tmp_path / "lock", 1
    )
    wait_until(again.has_ended, "the next attempt")
    assert (tmp_path / "2.log").read_text() == "0\n"


def test_what_another_attempt_may_avoid(tmp_path: Path) -> None:
    """A full disk, and a program of an earlier attempt whose worker is suspended."""
    with pytest.raises(ObjectiveError, match=r"cannot write /dev/full \(No space left on device\)") as full:
        _announce(1, ["train"], Path("/dev/full"))
    assert is_transient(full.value)
    with pytest.raises(ObjectiveError, match="No such file or directory") as missing:
        _announce(1, ["train"], tmp_path / "none" / LOG)
    assert not is_transient(missing.value)
    run = CommandObjective(tmp_path).start({}, 7, settings_of("train"), None, "cpu")
    for said, may_retry in ((STILL_RUNS, True), ("No such file or directory", False)):
        program = cast(Program, SimpleNamespace(error=said, status=None))
        assert is_transient(run._failure(program, tmp_path)) == may_retry


def test_files_that_cannot_be_kept_cost_no_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = CommandObjective(tmp_path).start({}, 7, settings_of("train", keep=["*.pt"]), None, "cpu")
    run._folder = tmp_path
    (tmp_path / LOG).write_text("said\n")
    (tmp_path / "good.pt").write_text("good")
    (tmp_path / "gone.pt").symlink_to("/proc/self/mem")
    assert run.files() == {LOG: b"said\n", "good.pt": b"good"}
    assert f"cannot keep {tmp_path}/gone.pt: " in caplog.text


def test_how_a_program_ends(tmp_path: Path) -> None:
    def run(*command: str) -> Program:
        program = Program(command, tmp_path, os.environ, tmp_path / LOG, tmp_path / "lock", 1)
        wait_until(program.has_ended, str(command))
        program.stop()
        return program

    assert run("/bin/sh", "-c", "exit 3").status == 3
    assert run("/bin/sh", "-c", "kill -9 $$").status == -signal.SIGKILL
    assert run("/none").error == "No such file or directory"
    killed = start_family(tmp_path, "heeding", "wait")
    wait_until((tmp_path / "pids").exists, "the family")
    os.kill(killed.pid, signal.SIGKILL)
    wait_until(killed.has_ended, "the end of the supervisor")
    assert killed.error == "its supervisor ended with -9"
    program, *others = (int(pid) for pid in (tmp_path / "pids").read_text().split())
    wait_until(lambda: _state(program) in ("Z", ""), "the end of the program, which the kernel kills")
    supervisor.send(set(others), signal.SIGKILL)  # as documented, these live on


def test_the_supervisor_starts_fast(tmp_path: Path) -> None:
    """It imports nothing of ours and nothing slow."""
    code = f"import sys, runpy; runpy.run_path({supervisor.__file__!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"search", "logging", "asyncio", "ctypes"} & set(loaded.split())


class OfTrial:
    """What a run needs of its trial."""

    number, attempt, resumed = 3, 1, False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set_user_attr(self, name: str, value: Any) -> None:
        """Store nothing."""


def test_only_output_is_a_sign_of_life(tmp_path: Path) -> None:
    """A silent program does not come back to the worker, except to stop; otherwise it would never be stalled."""
    go = tmp_path / "go"
    wait = f"while not os.path.exists({str(go)!r}): time.sleep(0.01)"
    script = f"import os, time\nprint('step=1 loss=2', flush=True)\n{wait}\nprint('alive', flush=True)\ntime.sleep(600)"
    run = CommandObjective(tmp_path).start({}, 7, settings_of([sys.executable, "-c", script], grace_s=0), None, "cpu")
    polls, lives, stopping = 0, 0, False

    def must_pause() -> bool:
        nonlocal polls
        polls += 1
        if polls == 20:
            go.touch()
        return stopping

    def should_stop() -> bool:
        nonlocal lives
        lives += 1
        return stopping or go.exists()

    run.attach(Attempt("loss", make_trial=lambda: OfTrial(tmp_path), study="s", must_pause=must_pause))
    assert run.advance(lambda: False) == Evaluation(1, 2.0)
    assert run.advance(should_stop) is None
    assert polls >= 20
    assert lives <= 3  # at the beginning, after the first line, after "alive"
    stopping = True
    assert run.advance(should_stop) is None
    run.close()
    assert run.files()[LOG].decode().splitlines()[-2:] == ["step=1 loss=2", "alive"]
