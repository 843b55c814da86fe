"""Programs of `search` that a forked program starts: forks too, made before it has threads or an open database."""

from __future__ import annotations

import inspect
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, NoReturn

# What `child_command` makes of a module.
_PREFIX = [sys.executable, "-P", "-m"]
_SIGNALS: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGUSR1: signal.SIG_DFL,
    signal.SIGUSR2: signal.SIG_DFL,
}
# Makes a fork a program: its name, its arguments and its environment are given.
Program = Callable[[str, Sequence[str], Mapping[str, str]], NoReturn]


def fork_children(count: int, become: Program) -> None:
    """Let the next programs of `search` that this process starts be forks of what it is now.

    Args:
        count: How many; those that it starts later are new interpreters.
        become: Turns a fork into a program.
    """
    idle: list[tuple[int, socket.socket]] = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            # The fork ends with this process: no other fork may hold the connection.
            for each in (ours, *(connection for _, connection in idle)):
                each.close()
            wait_for_program(theirs, become)
        theirs.close()
        idle.append((pid, ours))
    subprocess.Popen._execute_child = execute_child(lambda: idle.pop(0) if idle else None)  # type: ignore[attr-defined]


def execute_child(next_child: Callable[[], tuple[int, socket.socket] | None]) -> Callable[..., None]:
    """What starts the process of a `subprocess.Popen`, with forks for the programs of `search`.

    Args:
        next_child: A child of this process in `wait_for_program`, and the other end of its connection, if there is one.
    """
    start = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    parameters = inspect.signature(start)

    @wraps(start)  # one may be made of another one
    def execute(process: Any, *given: Any) -> None:
        how = parameters.bind(process, *given).arguments
        is_ours = list(how["args"])[:3] == _PREFIX and how["cwd"] is None
        child = next_child() if is_ours else None
        if child is None:
            start(process, *given)
            return
        process.pid, connection = child
        process._child_created = True
        with connection:
            _send_program(connection, how)
        process._close_pipe_fds(
            *(how[end] for end in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"))
        )

    return execute


def _send_program(connection: socket.socket, how: Mapping[str, Any]) -> None:
    given = (how["p2cread"], how["c2pwrite"], how["errwrite"])
    streams = [own if descriptor == -1 else descriptor for own, descriptor in enumerate(given)]
    mask = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
    environment = dict(os.environ if how["env"] is None else how["env"])
    message = json.dumps([list(how["args"])[3:], environment, how["start_new_session"], mask, os.getcwd()]).encode()
    socket.send_fds(connection, [len(message).to_bytes(8, "big")], streams)
    connection.sendall(message)
    connection.recv(1)  # it is what it shall be


def wait_for_program(parent: socket.socket, become: Program) -> NoReturn:
    """Wait until the process at the other end says which program to be; end if that ends."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    size, streams, *_ = socket.recv_fds(parent, 8, 3)
    if not size:
        os._exit(0)  # the parent has ended, or has not needed it
    with parent.makefile("rb") as stream:
        command, environment, has_own_session, mask, folder = json.loads(stream.read(int.from_bytes(size, "big")))
    for target, descriptor in enumerate(streams):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(folder)
    if has_own_session:
        os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in _SIGNALS.items():
        signal.signal(number, handler)
    parent.sendall(b".")
    parent.close()
    become(command[0].removeprefix("search."), command[1:], environment)
