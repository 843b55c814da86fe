"""An S3 server on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs

import pytest


class Bucket(BaseHTTPRequestHandler):
    """As much of S3 as storing, reading, listing and removing objects takes."""

    objects: ClassVar[dict[str, bytes]] = {}
    is_away: ClassVar[threading.Event] = threading.Event()

    def parse_request(self) -> bool:
        """Answer every request with 503 while the bucket is away."""
        is_whole = super().parse_request()
        if is_whole and self.is_away.is_set():
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(503)
            return False
        return is_whole

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "chunked" in self.headers.get("Content-Encoding", ""):
            size, _, rest = body.partition(b"\r\n")
            body = rest[: int(size.split(b";")[0], 16)]
        self.objects[self.path.split("?")[0]] = body
        self._answer(200)

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if "list-type=2" in query:
            self._list(path.strip("/"), parse_qs(query).get("prefix", [""])[0])
            return
        content = self.objects.get(self.path)
        error = b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"
        self._answer(200 if content is not None else 404, error if content is None else content)

    def _list(self, bucket: str, prefix: str) -> None:
        names = {path.removeprefix(f"/{bucket}/"): len(body) for path, body in self.objects.items()}
        found = "".join(
            f"<Contents><Key>{name}</Key><Size>{size}</Size></Contents>"
            for name, size in names.items()
            if name.startswith(prefix)
        )
        self._answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode())

    def do_DELETE(self) -> None:
        self.objects.pop(self.path, None)
        self._answer(204)

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def bucket_away(bucket: dict[str, bytes]) -> threading.Event:
    """While it is set, the bucket answers nothing but errors."""
    return Bucket.is_away


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """An S3 server on loopback, to which boto3 is sent; what it holds, by path."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Bucket.objects.clear()
    Bucket.is_away.clear()
    names = {"AWS_ACCESS_KEY_ID": "name", "AWS_SECRET_ACCESS_KEY": "key", "AWS_DEFAULT_REGION": "here"}
    for name, value in {**names, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}.items():
        monkeypatch.setenv(name, value)
    yield Bucket.objects
    server.shutdown()
    server.server_close()
