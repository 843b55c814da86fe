"""Hundreds of generated wrong inputs: each ends with exit code 2 and one line, and nothing is created.

Some of what is drawn is right by chance; then the program must succeed. The inputs are drawn from fixed seeds.
"""

from __future__ import annotations

import importlib
import os
import random
import re
import socket
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from study_files import FAKE_STUDY, program, write_corpus
from typer.testing import CliRunner

MIN_WRONG = 300
VALUES: list[str] = [
    "-1", "0", "1e400", "nan", "inf", '""', "[]", "{}", "true", '"\\u0000"', "1" + "0" * 30, "[[1]]", "[1, 1.0]",
    "[true, 1]", "1979-05-27", "07:32:00", '"' + "x" * 5_000 + '"', '"a\\nb"', "[nan]", "{ low = 1 }",
    "{ low = 2, high = 1 }", "{ low = 0, high = 1, log = true }", "{ low = 1, high = 2, step = 0 }", '"../up"',
    '"module:name"', '"os:system"', '":"', "[" * 300 + "]" * 300, '[{ x = 1 }]', "-9223372036854775809", "1.5", '"é±"',
]  # fmt: skip
KEYS = [
    "name", "description", "objective", "corpus", "sampler", "trials", "seeds", "first_seed", "nonsense",
    "grid.n_embd", "grid.seed", 'grid."a b"', "grid.x", "axes.y", "training.max_iters", "training.learning_rate",
    "training.evaluation", "pruner.name", "pruner.keep", "pruner.zeal", "workers.lease_s", "workers.max_attempts",
    "auto_seeds.first", "baselines", "published", "claims", "grid", "axes", "training", "pruner", "workers",
    "auto_seeds",
]  # fmt: skip
TEXTS = [
    "", " ", "=", "a", "-", "--", "\x1b[31m", "a\nb", "é", "\ud800", "x" * 3_000, "../..", "/", "~", "%", "?", "*", "'",
    '"', "`id`", "$(id)", "{0}", "%s", "0", "-1", "nan", "1e999", "none", "None", "[", "module:", ":name", "os:system",
    "no_such_module:Name", "a:b:c", "json:loads", "\\", "NUL", "CON",
]  # fmt: skip
URLS = [
    "", ":", "/", "x", "sqlite", "sqlite:", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:////", "sqlite:///.",
    "sqlite:////dev/null", "sqlite:////proc/x/y.db", "sqlite:////etc/passwd/x.db", "sqlite:///no/such/folder.db",
    "sqlite:///a.db?timeout=x", "sqlite:///a.db?x=1", "sqlite:///" + "x" * 300, "sqlite:///a\nb/c.db",
    "sqlite://host/a.db", "sqlite+aiosqlite:///a.db", "sqlite:///{corpus}", "sqlite:///{corpus}/a.db", "mysql://h/d",
    "postgresql://u:hush@127.0.0.1:1/d", "postgresql://u:hush@127.0.0.1:99999/d", "postgresql://u:hush@[::1/d",
    "postgresql://u:hush@h:port/d", "postgresql+nothing://u:hush@127.0.0.1:1/d", "postgres://u:hush@127.0.0.1:1/d",
    "postgresql://u:hush@no-such-host.invalid/d", "postgresql://u:hush@127.0.0.1:1/d?sslmode=zeal",
    "postgresql://u:hush@127.0.0.1:1/d?nonsense=1", "postgresql://u:hush@127.0.0.1:1/" + "x" * 300, "://", "\ud800://x",
    "redis://h/1", "file:///a.db", "http://h/", "SQLITE:///a.db", "sqlite:///a%00b.db", "sqlite:///a\0b.db",
]  # fmt: skip
OPTIONS = {
    "run": ["--study", "--corpus", "--out", "--artifacts", "--name", "--fuse", "--seeds", "--pruner", "--set", "--from",
            "--workers", "--devices", "--launcher", "--track", "--timeout", "--target", "--storage-wait"],
    "worker": ["--study", "--corpus", "--out", "--artifacts", "--name", "--fuse", "--device"],
    "report": ["--study", "--format", "--output", "--top"],
    "status": ["--study", "--storage-wait"],
    "replay": ["--study", "--trial", "--device"],
}  # fmt: skip
VARIABLES = [
    "SEARCH_CORPUS", "SEARCH_OUT", "SEARCH_ARTIFACTS", "SEARCH_SEEDS", "SEARCH_PRUNER", "SEARCH_SET", "SEARCH_FUSE",
    "SEARCH_WORKERS", "SEARCH_DEVICES", "SEARCH_LAUNCHER", "SEARCH_TRACK", "SEARCH_STORAGE",
]  # fmt: skip

Case = tuple[str, list[str], dict[str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the inputs; the working directory is an empty folder beside them."""
    (tmp_path / "in").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    write_corpus(tmp_path / "in")
    (tmp_path / "in" / "good.toml").write_text(FAKE_STUDY)
    return tmp_path / "in"


def run_arguments(folder: Path, study: str = "good.toml") -> list[str]:
    return ["--study", str(folder / study), "--corpus", str(folder / "text.txt"), "--plan-only", "--quiet"]


def study_files(draw: random.Random, folder: Path) -> Iterator[Case]:
    """Study files with one wrong value, and damaged ones."""
    for at in range(120):
        key, value = draw.choice(KEYS), draw.choice(VALUES)
        table, _, name = key.rpartition(".")
        lines = [line for line in FAKE_STUDY.splitlines() if not line.startswith(f"{name} =")]
        lines = [*lines, f"[{table}]", f"{name} = {value}"] if table else [f"{key} = {value}", *lines]
        if table and f"[{table}]" in FAKE_STUDY:
            lines = FAKE_STUDY.replace(f"[{table}]\n", f"[{table}]\n{name} = {value}\n").splitlines()
        yield write(folder, f"wrong{at}.toml", "\n".join(lines).encode())
    for at in range(30):
        data = bytearray(FAKE_STUDY.encode())
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(data))
            data[place : place + draw.randint(0, 9)] = bytes(
                draw.choices(b"=[]{}\"'\\\x00\xff\n#.,e1", k=draw.randint(0, 3))
            )
        yield write(folder, f"damaged{at}.toml", bytes(data))
    special = {
        "utf16": FAKE_STUDY.encode("utf-16"), "latin": b'description = "caf\xe9"\n', "empty": b"", "nul": b"\0" * 9,
        "deep": b"x = " + b"[" * 20_000, "digits": b"seeds = " + b"9" * 9_000, "large": b"#" * 11_000_000,
        "wide": b"[grid]\n" + b"\n".join(b"x%d = [1, 2, 3]" % at for at in range(50)), "cr": b"a\rb = 1\r",
    }  # fmt: skip
    for name, content in special.items():
        yield write(folder, f"{name}.toml", content)
    os.mkfifo(folder / "pipe.toml")
    (folder / "folder.toml").mkdir()
    (folder / "device.toml").symlink_to("/dev/zero")
    (folder / "loop.toml").symlink_to(folder / "loop.toml")
    for name in ("pipe", "folder", "device", "loop", "absent", "x" * 300, "a\0b"):
        yield "run", run_arguments(folder, f"{name}.toml"), {}


def write(folder: Path, name: str, content: bytes) -> Case:
    (folder / name).write_bytes(content)
    return "run", run_arguments(folder, name), {}


def options(draw: random.Random, folder: Path) -> Iterator[Case]:
    """Options and environment variables with wrong values."""
    for _ in range(100):
        name = draw.choice(list(OPTIONS))
        option, value = draw.choice(OPTIONS[name]), draw.choice(TEXTS)
        if option == "--set":
            value = f"{draw.choice(['n_embd', 'seeds', 'max_iters', 'x', ''])}{draw.choice(['=', ''])}{value}"
        base = run_arguments(folder) if name == "run" else ["--study", "small"]
        yield name, [*base, option, value], {}
    for at in range(36):
        variable, value = VARIABLES[at % len(VARIABLES)], draw.choice(TEXTS).replace("\ud800", "x")
        yield "run", ["--study", str(folder / "good.toml"), "--plan-only", "--quiet"], {variable: value}
    for _ in range(12):
        letters = "".join(draw.choices(string.ascii_letters + "()=,[]{}'\".:1 ", k=draw.randint(1, 12)))
        yield "run", [*run_arguments(folder), "--pruner", letters], {}
        yield "run", [*run_arguments(folder), "--set", f"n_embd={letters}"], {}


def urls(draw: random.Random, folder: Path) -> Iterator[Case]:
    """Storage URLs, given to each program."""
    for url in URLS:
        name = draw.choice(["run", "report", "status", "worker", "replay"])
        base = run_arguments(folder) if name == "run" else ["--study", "small"]
        trial = ["--trial", "0"] if name == "replay" else []
        storage = url.replace("{corpus}", str(folder / "text.txt"))
        yield name, [*base, *trial, "--storage", storage, "--storage-wait", "0"], {}


def corpora(draw: random.Random, folder: Path) -> Iterator[Case]:
    """Texts that are none."""
    contents = [b"", b"\xef\xbb\xbf", b"\0", b"a\0b", b"\xff\xfe", b"caf\xe9", b"x", b"\xed\xa0\x80"]
    contents += [bytes(draw.choices(range(256), k=draw.randint(1, 99))) for _ in range(12)]
    for at, content in enumerate(contents):
        (folder / f"{at}.txt").write_bytes(content)
    os.mkfifo(folder / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "socket.txt"))
    names = [
        *(f"{at}.txt" for at in range(len(contents))),
        "pipe.txt",
        "socket.txt",
        ".",
        "absent.txt",
        "x" * 300,
        "a\0b",
    ]
    for path in [*(str(folder / name) for name in names), "/dev/zero", "/dev/null", "/proc/self/mem", ""]:
        yield "run", ["--study", "bigram", "--plan-only", "--quiet", "--corpus", path], {}


def check(case: Case, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run one case.

    Returns:
        Whether it was wrong use.
    """
    name, arguments, variables = case
    app: Any = importlib.import_module(f"search.{name}").app
    with monkeypatch.context() as patch:
        for variable, value in variables.items():
            if "\0" not in value:
                patch.setenv(variable, value)
        result = CliRunner().invoke(app, arguments)
    about = f"{case}\n{result.output}"
    assert result.exception is None or isinstance(result.exception, SystemExit), about + repr(result.exc_info)
    assert "Traceback" not in result.output, about
    assert "hush" not in result.output, about
    if result.exit_code == 0:
        return False
    assert result.exit_code == 2, about
    assert result.stdout == "", about
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: "), about
    assert len(line) <= 4_100, about
    assert os.listdir() == [], about
    return True


@pytest.mark.timeout(300)
def test_generated_inputs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, wrong = random.Random(12), 0
    for make in (study_files, options, urls, corpora):
        for case in make(draw, folder):
            wrong += check(case, monkeypatch)
            for name in os.listdir():
                remove(Path(name))
    assert wrong >= MIN_WRONG


def remove(path: Path) -> None:
    if path.is_dir():
        for each in path.iterdir():
            remove(each)
        path.rmdir()
    else:
        path.unlink()


PROCESSES: list[tuple[str, list[str], dict[str, str]]] = [
    ("run", ["--study", "nope.toml"], {}),
    ("run", ["--study", "bigram", "--corpus", "/dev/zero"], {}),
    ("run", ["--study", "bigram", "--set", "n_embd=\udcff"], {}),
    ("run", ["--study", "bigram", "--storage", "postgresql://u:hush@127.0.0.1:1/d", "--storage-wait", "0"], {}),
    ("run", ["--study", "bigram", "--launcher", "json:loads"], {}),
    ("report", ["--study", "é±"], {"PYTHONIOENCODING": "ascii"}),
    ("status", ["--study", "bigram"], {"SEARCH_STORAGE": "sqlite:////dev/null"}),
    ("worker", ["--study", "bigram"], {"LC_ALL": "C", "PYTHONUTF8": "0"}),
    ("replay", ["--study", "bigram", "--trial", "0"], {"SEARCH_STORAGE": "nonsense"}),
    ("dashboard", ["--storage", "nonsense"], {}),
    ("run", ["--study", "bigram"], {"SEARCH_STORAGE": "sqlite:///x", "SEARCH_SEEDS": "0"}),
    ("run", ["--study", "bigram"], {"SEARCH_CORPUS": "", "XDG_CACHE_HOME": "\x01", "SEARCH_FUSE": "?"}),
]


@pytest.mark.parametrize(
    "case",
    PROCESSES,
    ids=lambda case: ascii(case[1:]),
)
def test_processes(case: Case, tmp_path: Path) -> None:
    name, arguments, variables = case
    done = program(name, *arguments, cwd=tmp_path, env=variables)  # a new interpreter where variables are given
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert "hush" not in done.stderr
    assert re.search(r"^(error|Error): .", done.stderr, re.MULTILINE), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    command = f"cd {tmp_path}/gone && rmdir {tmp_path}/gone && exec {sys.executable} -P -m search.run --study bigram"
    (tmp_path / "gone").mkdir()
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the working directory does not exist any more; change to another folder\n"
