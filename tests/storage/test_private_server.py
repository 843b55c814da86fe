"""The claims on a server's folder, its door, and what is refused before anything starts."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from search.storage.connect import check_storage, open_database
from search.storage.errors import NoStudyYet, StorageError
from search.storage.server import client, postgres
from search.storage.server.claims import (
    SOCKETS,
    ClaimLost,
    Pace,
    Place,
    Runs,
    ask_to_stop,
    claim,
    is_dead,
    newest,
    process_start,
    running,
    this_machine,
)
from search.storage.server.door import Door, listen
from search.storage.server.folder import ServerFolder
from search.storage.server.stopping import stop_server
from search.storage.url import display_url, parse_url, storage_anywhere

FAST = Pace(beat_s=0.02, give_up_s=0.1, silence_s=0.3)
HERE = Place("here", "127.0.0.1", 1, "/nowhere", this_machine(), os.getpid(), process_start(os.getpid()) or "")
ENDED = replace(HERE, started="1")  # another process had this number
AWAY = replace(HERE, host="node-7", machine="another")


def test_a_claim_of_a_live_process_is_respected_and_one_of_a_dead_process_replaced(tmp_path: Path) -> None:
    left, other = Path(tempfile.mkdtemp(prefix=SOCKETS)), tmp_path / "other"
    other.mkdir()
    claim(tmp_path, replace(ENDED, sockets=str(other)), FAST)
    first = claim(tmp_path, replace(ENDED, sockets=str(left)), FAST)
    assert newest(tmp_path) == replace(ENDED, sockets=str(left))
    second = claim(tmp_path, HERE, FAST)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other", "server-000003.json"]
    assert not left.exists()
    with pytest.raises(Runs, match=f"runs already on the host here, process {os.getpid()}"):
        claim(tmp_path, HERE, FAST)
    with pytest.raises(ClaimLost, match=r"server-000002.json is gone"):
        first.beat()
    assert not second.beat()
    second.release()
    assert newest(tmp_path) is None
    assert running(tmp_path, FAST) is None


def test_a_claim_of_another_machine_lives_as_long_as_it_moves(tmp_path: Path) -> None:
    held, ended = claim(tmp_path, AWAY, FAST), threading.Event()

    def beat() -> None:
        while not ended.wait(FAST.beat_s):
            held.beat()

    owner = threading.Thread(target=beat)
    owner.start()
    with pytest.raises(Runs, match="on the host node-7"):
        claim(tmp_path, HERE, FAST)
    ended.set()
    owner.join()
    began = time.monotonic()
    assert claim(tmp_path, HERE, FAST).file.name == "server-000002.json"
    assert time.monotonic() - began >= FAST.silence_s


def test_many_claim_at_once_and_one_gets_it(tmp_path: Path) -> None:
    claim(tmp_path, ENDED, FAST)
    outcomes: list[str] = []

    def attempt() -> None:
        try:
            outcomes.append(claim(tmp_path, HERE, FAST).file.name)
        except Runs:
            outcomes.append("runs")

    threads = [threading.Thread(target=attempt) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("runs") == 15
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": "x"}'])
def test_a_claim_that_says_nothing_is_judged_by_its_silence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "server-000003.json"
    file.write_text(text)
    assert newest(tmp_path) is None
    assert is_dead(file, FAST)


def test_an_owner_notices_another_claim_and_a_request_to_stop(tmp_path: Path) -> None:
    held = claim(tmp_path, HERE, FAST)
    ask_to_stop(held.file)
    assert held.beat()
    (tmp_path / "server-000009.json").write_text(json.dumps(asdict(HERE)))
    with pytest.raises(ClaimLost, match=r"another process has made .*server-000009.json"):
        held.beat()


def test_a_server_of_another_machine_is_stopped_through_its_claim(tmp_path: Path) -> None:
    assert stop_server(ServerFolder(tmp_path), FAST) is None
    held = claim(tmp_path, AWAY, FAST)

    def own() -> None:
        while not held.beat():
            time.sleep(FAST.beat_s)
        held.release()

    owner = threading.Thread(target=own)
    owner.start()
    assert stop_server(ServerFolder(tmp_path), FAST) == AWAY
    owner.join()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: (path / "thesis.tex").touch(), "is not the folder of a database server: give a new folder"),
        (lambda path: (path.rmdir(), path.touch()), "is not the folder of a database server"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises(StorageError, match=message):
        open_database(f"server:{folder}", create=True)
    assert sorted(folder.rglob("*")) == before


def test_a_storage_without_a_folder_or_a_database_in_it(tmp_path: Path) -> None:
    for text in ("server:", "server://me:hunter2@host/db"):
        with pytest.raises(StorageError, match="names no folder; write for example server:search-db") as refused:
            parse_url(text)
        assert "hunter2" not in str(refused.value)
    with pytest.raises(NoStudyYet, match="there is no database yet"):
        check_storage(f"server:{tmp_path / 'new'}", create=False)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("folder", ["db", "/shared/a b", "/x/50%?&#", "~/db"])
def test_a_storage_is_shown_as_it_was_given(folder: str) -> None:
    url = parse_url(f"server:{folder}")
    assert display_url(url) == display_url(f"server:{folder}") == f"server:{folder}"
    # As Optuna's storage passes it on.
    assert display_url(parse_url(url.render_as_string(hide_password=False))) == f"server:{folder}"


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "find_spec", lambda name: None)
    with pytest.raises(StorageError, match=r"install them with: pip install 'lm-search\[server\]'"):
        open_database(f"server:{tmp_path / 'db'}", create=True)
    assert not (tmp_path / "db").exists()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for parent in ("file", "missing"):
        with pytest.raises(StorageError, match=f"{parent} does not exist; create it first"):
            client.start(ServerFolder(tmp_path / parent / "db"))
    assert not (tmp_path / "missing").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL refuses root alone")
def test_root_is_told_where_another_user_can_run_it(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    with pytest.raises(StorageError, match=r"does not run as root, and the user with the number \d+ cannot enter"):
        client.start(ServerFolder(closed / "db"))
    assert not [*closed.iterdir()]


def test_workers_elsewhere_get_the_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage_anywhere("server:db") == f"server:{tmp_path / 'db'}"
    assert storage_anywhere("server:/db") == "server:/db"
    assert storage_anywhere("postgresql://me@host/db") == "postgresql://me@host/db"


def test_what_is_missing_or_of_another_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ServerFolder(tmp_path / "db")
    folder.make()
    folder.data.mkdir()
    (folder.data / "PG_VERSION").write_text("17\n")
    server = postgres.Postgres(folder, {})
    with pytest.raises(StorageError, match=r"made by PostgreSQL 17, and the installed package has 18: install .*==17"):
        server.prepare()
    server.clean_up()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StorageError, match="openssl is missing, which makes the server's certificate; install"):
        folder.make_secrets()


def test_the_door_speaks_tls_alone(tmp_path: Path) -> None:
    folder = ServerFolder(tmp_path / "db")
    folder.make()
    folder.make_secrets()
    assert (folder.key.stat().st_mode & 0o77, folder.password_file.stat().st_mode & 0o77) == (0, 0)
    asyncio.run(_knock(folder))


async def _knock(folder: ServerFolder) -> None:
    """Come to the door in each of the ways that there are."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(4))
        await writer.drain()
        writer.close()

    behind = folder.path / "socket"
    listener = listen()
    door, port = Door(listener, behind), listener.getsockname()[1]
    await door.open()
    tls_request, gssapi_request = struct.pack("!II", 8, 80877103), struct.pack("!II", 8, 80877104)

    async def say(request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        return answer

    assert b"starting up" in await say(tls_request)
    door.admit(folder.certificate, folder.key)
    assert b"TLS alone" in await say(struct.pack("!II", 8, 196608))
    trusted = ssl.create_default_context(cafile=str(folder.certificate))
    trusted.check_hostname = False
    for with_socket in (False, True):
        server = await asyncio.start_unix_server(echo, behind) if with_socket else None
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(gssapi_request)
        assert await reader.readexactly(1) == b"N"
        writer.write(tls_request)
        assert await reader.readexactly(1) == b"S"
        await writer.start_tls(trusted)
        writer.write(b"ping")
        assert (await reader.read() == b"ping") if with_socket else (b"starting up" in await reader.read())
        writer.close()
        if server is not None:
            server.close()
    await door.close()
