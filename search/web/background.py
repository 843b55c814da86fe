"""The dashboard as a background process of a run."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator

from search.launchers.child_process import child_command, child_environment


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
