"""The dashboard as a process beside a run."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator

from search.launchers.child_process import child_command, child_environment


@contextlib.contextmanager
def dashboard_process(storage: str, artifacts: str, port: int = 8080) -> Iterator[None]:
    """Serve the dashboard of `storage` as long as the context lasts; it prints its address itself.

    Args:
        artifacts: The artifact store that it shows.
        port: The port to try; where something else listens there, a free one is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            port = 0
    popen = subprocess.Popen(
        [*child_command("search.dashboard"), "--port", str(port), "--artifacts", artifacts],
        env=child_environment({"SEARCH_STORAGE": storage}),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        popen.terminate()
        popen.wait()
