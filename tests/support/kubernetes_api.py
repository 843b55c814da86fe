"""An API server in memory: it takes the Jobs that a real one would take, runs nothing, and answers kubectl."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes_rules import schema_faults, server_faults

JOBS, PODS = "/apis/batch/v1", "/api/v1"
KINDS = {"jobs": "Job", "pods": "Pod"}


def _resource(name: str, verbs: tuple[str, ...]) -> dict[str, Any]:
    singular = KINDS[name].lower()
    return {"name": name, "singularName": singular, "namespaced": True, "kind": KINDS[name], "verbs": verbs}


# kubectl asks this description whether the server checks fields itself.
_OPEN_API = {
    "openapi": "3.0.0",
    "info": {"title": "Kubernetes", "version": "test"},
    "paths": {
        f"{JOBS}/namespaces/{{namespace}}/jobs": {
            "post": {
                "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}],
                "responses": {},
                "x-kubernetes-group-version-kind": {"group": "batch", "version": "v1", "kind": "Job"},
            },
            "patch": {
                "parameters": [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}],
                "responses": {},
                "x-kubernetes-group-version-kind": {"group": "batch", "version": "v1", "kind": "Job"},
            },
        }
    },
}
DISCOVERY: dict[str, Any] = {
    "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {
        "kind": "APIGroupList",
        "groups": [
            {
                "name": "batch",
                "versions": [{"groupVersion": "batch/v1", "version": "v1"}],
                "preferredVersion": {"groupVersion": "batch/v1", "version": "v1"},
            }
        ],
    },
    PODS: {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            _resource("pods", ("get", "list", "watch")),
            {**_resource("pods", ("get",)), "name": "pods/log"},
        ],
    },
    JOBS: {
        "kind": "APIResourceList",
        "groupVersion": "batch/v1",
        "resources": [_resource("jobs", ("get", "list", "create", "delete", "patch", "watch"))],
    },
    "/openapi/v3": {"paths": {"apis/batch/v1": {"serverRelativeURL": "/openapi/v3/apis/batch/v1"}}},
    "/openapi/v3/apis/batch/v1": _OPEN_API,
}


class KubernetesApi:
    """The objects of a cluster.

    Attributes:
        jobs, pods: By name.
        logs: The log of each pod.
        requests: Method and path of each request that changes something.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, str] = {}
        self.requests: list[str] = []

    def set_status(self, job: str, **status: Any) -> None:
        """Say what a controller has found out about a Job."""
        self.jobs[job]["status"] = status

    def add_pod(self, job: str, name: str, **status: Any) -> None:
        """Add a pod of a Job."""
        template = self.jobs[job]["spec"]["template"]
        metadata = {"name": name, "namespace": "default", "labels": {**template["metadata"]["labels"], "job-name": job}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        self.pods[name] = {**pod, "spec": template["spec"], "status": status}

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: bytes) -> tuple[int, Any]:
        """Status and content of an answer."""
        if path in DISCOVERY:
            return 200, DISCOVERY[path]
        found = re.fullmatch(rf"(?:{JOBS}|{PODS})/namespaces/[^/]+/(jobs|pods)(?:/([^/]+))?(/log)?", path)
        if found is None:
            return 404, _status(404, "NotFound", f"no {path}")
        kind, name, log = found.groups()
        objects = self.jobs if kind == "jobs" else self.pods
        if method == "POST":
            return self._create(json.loads(body), is_dry="dryRun" in query)
        if name is None:
            return 200, _list(kind, objects, query)
        if name not in objects:
            return 404, _status(404, "NotFound", f'{kind} "{name}" not found')
        if log:
            return 200, self.logs.get(name, "")
        if method == "DELETE":
            self.requests.append(f"DELETE {name}")
            del objects[name]
            return 200, _status(200, "", "")
        return 200, objects[name]

    def _create(self, job: dict[str, Any], is_dry: bool) -> tuple[int, Any]:
        name = job["metadata"]["name"]
        if name in self.jobs:
            return 409, _status(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
        if found := [*schema_faults(job), *server_faults(job)]:
            return 422, _status(422, "Invalid", f'Job.batch "{name}" is invalid: {"; ".join(found)}')
        job["metadata"]["namespace"] = job["metadata"].get("namespace", "default")
        if not is_dry:
            self.requests.append(f"CREATE {name}")
            self.jobs[name] = {**job, "status": {}}
        return 201, job


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    state = "Success" if code < 300 else "Failure"
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": state, "code": code}
    return {**status, "reason": reason, "message": message}


def _list(kind: str, objects: Mapping[str, Any], query: Mapping[str, list[str]]) -> dict[str, Any]:
    wanted = dict(each.split("=") for each in query.get("labelSelector", [""])[0].split(",") if each)
    named = dict(each.split("=") for each in query.get("fieldSelector", [""])[0].split(",") if each)
    items = [
        each
        for each in objects.values()
        if wanted.items() <= each["metadata"]["labels"].items()
        and named.get("metadata.name", each["metadata"]["name"]) == each["metadata"]["name"]
    ]
    version = "batch/v1" if kind == "jobs" else "v1"
    return {"kind": f"{KINDS[kind]}List", "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": items}


@contextmanager
def served(api: KubernetesApi, folder: Path) -> Iterator[dict[str, str]]:
    """Serve an API on loopback.

    Args:
        folder: Gets a configuration of kubectl, and its caches.

    Yields:
        The environment of a kubectl that talks to it.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            code, content = api.answer(self.command, url.path, parse_qs(url.query), body)
            is_text = isinstance(content, str)
            data = content.encode() if is_text else json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if is_text else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    cluster = {"name": "test", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    context = {"name": "test", "context": {"cluster": "test", "user": "", "namespace": "default"}}
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context]}
    file = folder / "kubeconfig"
    file.write_text(json.dumps({**config, "current-context": "test"}))
    try:
        yield {"KUBECONFIG": str(file), "KUBECACHEDIR": str(folder / "cache")}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
