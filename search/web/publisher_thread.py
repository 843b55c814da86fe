"""Publishes a study to the dashboard about once a minute while it runs, and once more at its end.

The processes that run trials publish: the launcher of `search.run`, and workers that no launcher started. They take
turns through the database, so a study is published as often whatever the number of processes. The dashboard does not
publish: it is read-only, and its database role may lack write access.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from search.storage.database import Database

EVERY_S = 60.0
# Workers need the processor while they start, and there is little to publish yet.
FIRST_S = 10.0
# With 10,000 trials it takes a second or two; it may take at most this share of the time.
MAX_SHARE = 0.02
# A database that is not reachable must not delay the end of a run.
OUTAGE_S = 2.0


@contextmanager
def publish_periodically(database: Database, names: Sequence[str]) -> Iterator[None]:
    """Publish studies periodically while the context is open, and once more at its end.

    Args:
        database: A background thread uses it.
        names: The study's name, and that of its sibling with the baselines if there is one.
    """
    impatient = replace(database, outage_s=OUTAGE_S, waits_when_full=False)
    ended = threading.Event()

    def publish(every_s: float = 0.0) -> None:
        from search.web import dashboard_publisher  # what it writes with is not imported before the first trial

        dashboard_publisher.publish(impatient, names, every_s)

    def work() -> None:
        pause_s = FIRST_S
        while not ended.wait(pause_s):
            began = time.monotonic()
            publish(EVERY_S)
            pause_s = max(EVERY_S, (time.monotonic() - began) / MAX_SHARE)

    thread = threading.Thread(target=work, name="publishing", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        publish()
