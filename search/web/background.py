"""The dashboard as a background process of a run."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

from search.launchers.child_process import child_command, child_environment
from search.streams import write_line


@contextlib.contextmanager
def dashboard_process(storage: str, artifacts: str, port: int = 8080) -> Iterator[None]:
    """Serve the dashboard of `storage` while the context is open; the process prints its address.

    Args:
        artifacts: The artifact store that it shows.
        port: The port to try; if it is in use, a free one is chosen.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            port = 0
    popen = subprocess.Popen(
        [
            *child_command("search.dashboard"),
            *("--port", str(port), "--artifacts", artifacts, "--parent", str(os.getpid())),
        ],
        env=child_environment({"SEARCH_STORAGE": storage}),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    thread = threading.Thread(target=_pass_on, args=(popen,), name="dashboard", daemon=True)
    thread.start()
    try:
        yield
    finally:
        popen.terminate()
        popen.wait()
        thread.join()


def _pass_on(popen: subprocess.Popen[str]) -> None:
    # Through sys.stderr: the live display moves down for what is printed there.
    assert popen.stderr is not None
    with popen.stderr:
        for line in popen.stderr:
            write_line(line.rstrip("\n"), sys.stderr)
