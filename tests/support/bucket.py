"""An S3 server on loopback: moto, which checks requests and answers as S3 does."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

BUCKETS = ("bucket", "weights")


class Objects(Mapping[str, bytes]):
    """What the buckets hold, by path: /bucket/key."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getitem__(self, path: str) -> bytes:
        bucket, _, key = path.strip("/").partition("/")
        try:
            content: bytes = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        except self._client.exceptions.NoSuchKey:
            raise KeyError(path) from None
        return content

    def __iter__(self) -> Iterator[str]:
        for bucket in BUCKETS:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                yield from (f"/{bucket}/{each['Key']}" for each in page.get("Contents", ()))

    def __len__(self) -> int:
        return len(list(iter(self)))


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *arguments: Any) -> None:
        pass


class _Server:
    """The server, which answers nothing but 503 while it is away."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # slow to import

        self.is_away = threading.Event()
        self._s3 = DomainDispatcherApplication(create_backend_app)
        self.http: BaseWSGIServer = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if self.is_away.is_set():
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return [b""]
        answer: Iterable[bytes] = self._s3(environ, start_response)
        return answer


@pytest.fixture
def _server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    server = _Server()
    names = {"AWS_ACCESS_KEY_ID": "name", "AWS_SECRET_ACCESS_KEY": "key", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**names, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.http.server_port}"}.items():
        monkeypatch.setenv(name, value)
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def bucket(_server: _Server) -> Objects:
    """An S3 server on loopback with empty buckets, to which boto3 is sent; what it holds, by path."""
    import boto3  # slow to import

    client = boto3.client("s3")
    objects = Objects(client)
    for name in BUCKETS:
        client.create_bucket(Bucket=name)
    for path in list(objects):  # moto keeps them in this process, beyond a test
        name, _, key = path.strip("/").partition("/")
        client.delete_object(Bucket=name, Key=key)
    return objects


@pytest.fixture
def bucket_away(bucket: Objects, _server: _Server) -> threading.Event:
    """While it is set, the bucket answers nothing but errors."""
    return _server.is_away
