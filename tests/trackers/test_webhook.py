"""Messages to a URL, received by a real server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from sample_study import STUDY

from search.errors import UsageError
from search.storage.database import Database
from search.storage.leases import Report
from search.storage.queue import TrialQueue
from search.storage.state_transitions import Outcome
from search.trackers.feed import TrackingFeed, tracking
from search.trackers.registry import make_trackers


class Receiver:
    """A server that keeps what is posted; with `broken` it answers 503.

    Attributes:
        posts: The JSON of each post that it took.
    """

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.broken = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not receiver.broken:
                    receiver.posts.append(json.loads(body))
                self.send_response(503 if receiver.broken else 200)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/very-secret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def texts(self) -> list[str]:
        """What Slack would show."""
        return [post["text"] for post in self.posts]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def finish(queue: TrialQueue, outcome: Outcome, loss: float | None, reason: str | None = None) -> None:
    [lease] = queue.claim([STUDY], "ann")
    if loss is not None:
        queue.report([Report(lease, 0, loss, loss)])
    queue.finish(lease, outcome, loss, reason=reason)


def test_the_start_new_bests_failures_and_the_end(
    database: Database, queue: TrialQueue, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    finish(queue, "complete", 3.0)  # before this run
    feed = TrackingFeed(database, [STUDY], make_trackers([f"webhook:{receiver.url}"]))
    feed.poll()
    assert receiver.posts == []
    finish(queue, "complete", 3.5)  # no new best
    finish(queue, "failed", None, "RuntimeError: no luck")
    receiver.broken = True
    finish(queue, "complete", 2.5)
    feed.poll()
    feed.poll()
    assert "127.0.0.1" in caplog.text
    assert "very-secret" not in caplog.text
    receiver.broken = False
    feed.poll()
    feed.close()
    first, failed, best, end = receiver.texts()
    assert first == f"{STUDY}: training has begun"
    assert failed.startswith(f"{STUDY}: failed trial 2 of {STUDY} (")
    assert failed.endswith(": RuntimeError: no luck")
    assert best.startswith(f"{STUDY}: new best trial 3 of {STUDY} (")
    assert "val_loss 2.5" in best
    assert end.startswith("the run has ended: 2 complete, 1 failed; best trial 3")
    assert receiver.posts[2]["cell"] == {"block_size": 8, "n_embd": 64, "pe_type": "randn"} | receiver.posts[2]["cell"]


def test_a_run_that_ends_at_once_is_told_of(database: Database, queue: TrialQueue, receiver: Receiver) -> None:
    finish(queue, "complete", 3.0)  # before this run
    with tracking(database, [STUDY], make_trackers([f"webhook:{receiver.url}"])):
        finish(queue, "complete", 2.5)
    first, best, end = receiver.texts()
    assert first == f"{STUDY}: training has begun"
    assert best.startswith(f"{STUDY}: new best trial 1 of {STUDY} (")
    assert end.startswith("the run has ended: 1 complete; best trial 1")


@pytest.mark.parametrize(
    "target", ["", "hooks.example.org/x", "ftp://hooks.example.org/x", "https:///x", "http://[::1"]
)
def test_what_is_no_url_is_refused(target: str) -> None:
    with pytest.raises(UsageError, match="name a URL, such as --track webhook:https://"):
        make_trackers([f"webhook:{target}"])


def test_a_refused_url_does_not_show_its_secret() -> None:
    with pytest.raises(UsageError) as refused:
        make_trackers(["webhook:ftp://ann:secret@hooks.example.org/token"])
    assert "secret" not in str(refused.value)
    assert "token" not in str(refused.value)
