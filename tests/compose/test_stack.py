"""The compose stack on a real engine: from nothing to a table, and through everything that can happen to it."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial

import pytest
from compose_stack import PASSWORDS, ROOT, Stack, wait_until

MakeStack = Callable[..., Stack]


def http(stack: Stack, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and body of a request to the dashboard."""
    address = f"http://127.0.0.1:{stack.environment['DASHBOARD_PORT']}{path}"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("files", [["docker-compose.yml"], ["docker-compose.yml", "docker-compose.gpu.yml"]])
def test_every_combination_of_files_is_valid(files: list[str]) -> None:
    arguments = [argument for file in files for argument in ("-f", file)]
    done = subprocess.run(["docker", "compose", *arguments, "config", "-q"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_from_nothing_to_a_table(make_stack: MakeStack) -> None:
    began = time.monotonic()
    stack = make_stack(cells=8, trial_ms=3000)
    stack.up("--wait")
    assert http(stack, "/healthz") == (200, "ok")
    wait_until(lambda: http(stack, "/api/studies")[0] == 200, 30, "the dashboard finds the tables")
    assert "fake" in http(stack, "/api/studies")[1]
    wait_until(lambda: stack.finished() == 8, 120, "8 finished trials")
    wait_until(lambda: not stack.containers("worker"), 30, "no worker left")
    ended = [stack.inspect(each) for each in stack.containers("worker", running=False)]
    assert [(each["State"]["ExitCode"], each["RestartCount"]) for each in ended] == [(0, 0), (0, 0)]
    table = stack.compose("run", "--rm", "-T", "report").stdout
    assert table.count("complete |") == 8
    stack.check_exactly_once()
    # More seeds and the same command again: only what is missing is added.
    stack.environment["SEEDS"] = "2"
    stack.up()
    wait_until(lambda: stack.finished() == 16, 120, "8 more trials")
    assert stack.query("SELECT max(attempts) FROM search_runs") == [["1"]]
    assert time.monotonic() - began < 300


def test_survives_kills_scaling_and_cuts(make_stack: MakeStack) -> None:
    draw = random.Random(7)
    stack = make_stack(cells=60, trial_ms=2500)
    stack.up(workers=1)
    wait_until(lambda: stack.finished() >= 1, 60, "a first trial")
    stack.up(workers=4)
    wait_until(lambda: len(stack.containers("worker")) == 4, 60, "4 workers")
    for _ in range(3):
        docker("kill", draw.choice(stack.containers("worker")))
        time.sleep(1)
    # `docker kill` counts as stopped by hand, which no restart policy undoes.
    stack.up(workers=4)
    wait_until(lambda: len(stack.containers("worker")) == 4, 60, "4 workers again")
    [database] = stack.containers("db")
    docker("kill", database)
    time.sleep(4)
    docker("start", database)
    paused = draw.choice(stack.containers("worker"))
    docker("pause", paused)
    cut = draw.choice([each for each in stack.containers("worker") if each != paused])
    network = f"{stack.project}_inside"
    docker("network", "disconnect", "-f", network, cut)
    time.sleep(6)  # longer than a lease
    docker("network", "connect", network, cut)
    docker("unpause", paused)
    stack.up(workers=2)
    wait_until(lambda: stack.finished() == 60, 200, "all 60 trials")
    stack.check_exactly_once()


def test_stop_hands_back_and_up_goes_on(make_stack: MakeStack) -> None:
    stack = make_stack(cells=4, trial_ms=20_000)
    stack.up()
    wait_until(lambda: stack.query("SELECT count(*) FROM search_runs WHERE step >= 4") == [["2"]], 90, "two under way")
    began = time.monotonic()
    stack.compose("stop", "worker")
    assert time.monotonic() - began < 10
    held = "SELECT state, attempts FROM search_runs ORDER BY number LIMIT 2"
    assert stack.query(held) == [["waiting", "0"], ["waiting", "0"]]
    stack.compose("down")
    stack.up()
    wait_until(lambda: bool(stack.containers("worker")), 60, "workers again")
    resumed = "resumes after step"
    wait_until(lambda: stack.compose("logs", "worker").stdout.count(resumed) == 2, 60, "both trials are resumed")
    wait_until(lambda: stack.finished() == 4, 120, "all trials")
    stack.check_exactly_once()


def test_restart_brings_every_worker_back_until_nothing_is_left(make_stack: MakeStack) -> None:
    """Signals from inside the container: those of `docker stop` and `docker kill` count as the user's own decision."""
    stack = make_stack(cells=8, trial_ms=6_000)
    stack.up(workers=2)

    def restarted(times: int) -> bool:
        return [stack.inspect(each)["RestartCount"] for each in stack.containers("worker")] == [times] * 2

    running = "SELECT count(*) FROM search_runs WHERE state = 'running' AND lease_until > 0"
    for turn, name in enumerate(("TERM", "USR1", "KILL"), start=1):
        wait_until(lambda: stack.query(running) == [["2"]], 60, "both workers train")
        for container in stack.containers("worker"):
            docker("exec", container, "sh", "-c", f"kill -{name} -1")
        wait_until(partial(restarted, turn), 60, "both workers are started again")
    wait_until(lambda: stack.finished() == 8, 200, "all trials")
    wait_until(lambda: not stack.containers("worker"), 60, "no worker left")
    time.sleep(5)  # longer than the engine waits before a restart
    ended = [stack.inspect(each) for each in stack.containers("worker", running=False)]
    assert [(each["State"]["ExitCode"], each["RestartCount"]) for each in ended] == [(0, 3), (0, 3)]
    stack.check_exactly_once()


def test_a_worker_out_of_memory_is_retried_so_often(make_stack: MakeStack) -> None:
    stack = make_stack(cells=2, trial_ms=500, max_attempts=2, WORKER_MEMORY="400m")
    file = stack.folder / "fake.toml"
    file.write_text(file.read_text().replace("x = [0, 1]", 'x = [0, 1]\nfault = ["none", "hog"]'))
    stack.up()
    unfinished = "SELECT count(*) FROM search_runs WHERE state <> 'done'"
    wait_until(lambda: stack.query(unfinished) == [["0"]], 150, "every trial has ended")
    rows = stack.query("SELECT outcome, attempts FROM search_runs WHERE cell LIKE '%hog%'")
    assert rows == [["failed", "2"], ["failed", "2"]]
    assert stack.query("SELECT outcome FROM search_runs WHERE cell LIKE '%none%'") == [["complete"], ["complete"]]


def test_keeps_its_secrets(make_stack: MakeStack) -> None:
    stack = make_stack(cells=2)
    stack.up("--wait")
    wait_until(lambda: stack.finished() == 2, 60, "both trials")
    shown = stack.compose("config").stdout + stack.compose("logs").stdout
    for service in ("db", "init", "roles", "worker", "dashboard"):
        for container in stack.containers(service, running=False):
            facts = stack.inspect(container)
            shown += json.dumps(facts)
            assert facts["HostConfig"]["ReadonlyRootfs"] is True
            assert facts["HostConfig"]["Memory"] > 0
            assert facts["HostConfig"]["PidsLimit"] > 0
            assert facts["HostConfig"]["CapDrop"] == ["ALL"]
            if service != "dashboard":
                assert not any(facts["NetworkSettings"]["Ports"].values()), service
    for path in ("/api/studies", "/api/studies/1", "/dashboard"):
        shown += http(stack, path)[1]
    for password in PASSWORDS.values():
        assert password not in shown
    before = stack.query("SELECT * FROM studies, trials")
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert http(stack, "/api/studies/1", method)[0] == 405
    assert stack.query("SELECT * FROM studies, trials") == before


def test_each_service_has_the_password_of_its_role(make_stack: MakeStack) -> None:
    stack = make_stack(cells=2)
    stack.up("--wait")
    wait_until(lambda: stack.finished() == 2, 60, "both trials")
    for service, secrets in {"dashboard": {"search_reader"}, "worker": {"search_worker"}, "init": {"search"}}.items():
        for container in stack.containers(service, running=False):
            mounted = {each["Destination"] for each in stack.inspect(container)["Mounts"]}
            assert {place for place in mounted if "secrets" in place} == {f"/run/secrets/{each}" for each in secrets}
    rights = "SELECT has_table_privilege('{}', '{}', '{}')"
    for role, table, right, has in (
        ("search_reader", "trials", "SELECT", "t"),
        ("search_reader", "trials", "UPDATE", "f"),
        ("search_worker", "trials", "UPDATE", "t"),
        ("search_worker", "studies", "DELETE", "f"),
    ):
        assert stack.query(rights.format(role, table, right)) == [[has]], (role, table, right)
    assert "complete" in stack.compose("run", "--rm", "-T", "status").stdout
    # The same command again, with new passwords.
    for role in ("worker", "reader"):
        (stack.folder / f"{role}_password").write_text(f"new-{role}\n")
    stack.environment["SEEDS"] = "2"
    stack.up("--force-recreate")
    wait_until(lambda: stack.finished() == 4, 120, "two more trials")
    wait_until(lambda: http(stack, "/api/studies")[0] == 200, 30, "the dashboard reads with its new password")


def test_visitors_from_elsewhere_need_a_decision(make_stack: MakeStack) -> None:
    stack = make_stack(cells=1, DASHBOARD_BIND="0.0.0.0")
    done = stack.up(check=False)
    assert done.returncode != 0
    assert 'give DASHBOARD_ARGS="--token-file /study/token --allow-host NAME" too' in done.stderr
    stack.environment["DASHBOARD_ARGS"] = "--allow-host example.org"
    stack.up()
    wait_until(lambda: "without a token every visitor sees" in logs(stack, "dashboard"), 60, "the dashboard refuses")
    stack.environment["DASHBOARD_ARGS"] = "--token-file /study/token"
    (stack.folder / "token").write_text("0123456789abcdef0123")
    stack.compose("up", "-d", "--pull", "never", "--no-build", "--wait", "dashboard")
    assert http(stack, "/api/studies")[0] == 401
    assert http(stack, "/healthz") == (200, "ok")


def logs(stack: Stack, service: str) -> str:
    """What a service has printed."""
    done = stack.compose("logs", service, check=False)
    return done.stdout + done.stderr


def refused(stack: Stack) -> str:
    """What is said by a stack that cannot start; it must not try again and again."""
    done = stack.up(check=False)
    assert done.returncode != 0
    assert all(stack.inspect(each)["RestartCount"] == 0 for each in stack.containers("worker", running=False))
    assert not stack.containers("worker")
    return done.stdout + done.stderr + stack.compose("logs", "init", check=False).stdout


def test_missing_password(make_stack: MakeStack) -> None:
    said = refused(make_stack(SECRETS_DIR="./secrets/there-are-none"))
    assert "secrets/there-are-none" in said


def test_unknown_study(make_stack: MakeStack) -> None:
    said = refused(make_stack(STUDY="bigrm"))
    assert "unknown study 'bigrm'; built-in studies: bigram, bigram-rates, bigram-tuned, gpt, gpt-scaling" in said
    assert "Traceback" not in said


def test_malformed_study_file(make_stack: MakeStack) -> None:
    stack = make_stack()
    (stack.folder / "fake.toml").write_text("[grid]\nx = [\n")
    said = refused(stack)
    assert "/study/fake.toml is not valid TOML" in said
    assert "Traceback" not in said


def test_port_in_use(make_stack: MakeStack) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        stack = make_stack(DASHBOARD_PORT=str(taken.getsockname()[1]))
        done = stack.up(check=False)
    assert done.returncode != 0
    assert "address already in use" in done.stderr + done.stdout


def docker(*arguments: str) -> None:
    """Run a docker command that must succeed."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
