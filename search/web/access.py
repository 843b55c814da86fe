"""Decides from a request's head whether the dashboard may answer it."""

from __future__ import annotations

import hmac
import ipaddress
import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode
from wsgiref.types import WSGIEnvironment

from search.web.answers import Answer
from search.web.session import Session

HEALTH_PATH = "/healthz"
READING = frozenset({"GET", "HEAD"})
_TOKEN = "token"
# A name or an address, and a port; an IPv6 address has brackets.
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d*)?")


@dataclass(frozen=True)
class Request:
    """The part of a request that decides about access; a missing header is empty.

    Attributes:
        path, query: Of the URL; the path is decoded, each byte as one character.
    """

    method: str
    path: str
    query: str
    host: str
    origin: str
    cookie: str
    authorization: str

    @classmethod
    def from_environ(cls, environ: WSGIEnvironment) -> Request:
        """Read a WSGI request."""
        headers = (environ.get(f"HTTP_{name}", "") for name in ("HOST", "ORIGIN", "COOKIE", "AUTHORIZATION"))
        return cls(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""), *headers)


class Access:
    """The rules of one dashboard.

    Args:
        hosts: Names under which visitors reach it, besides those of loopback. A page of another site can point a name
            of its own to this machine and then read the dashboard as its own; the Host header gives it away.
        writable: Whether requests that change something are allowed.
        token: The token that a visitor must present; None if the dashboard is open to all.
    """

    def __init__(self, hosts: Collection[str] = (), *, writable: bool, token: str | None) -> None:
        self._hosts = frozenset(map(_normalized, hosts))
        self.is_writable, self._token = writable, token
        self._session = None if token is None else Session(token)

    def answer(self, request: Request) -> Answer | None:
        """Return the answer to a request that the dashboard does not get; None for one that it gets."""
        if request.path == HEALTH_PATH:
            return Answer("200 OK", "ok")
        if not self._knows(request.host):
            shown = request.host[:100] or "no name"
            text = f"This dashboard is not known as {shown!a}; start it with --allow-host NAME to allow a name."
            return Answer("403 Forbidden", text)
        if not self._has_token(request):
            text = "A token is required: open /?token=…, or send the header Authorization: Bearer …"
            return Answer("401 Unauthorized", text, (("WWW-Authenticate", "Bearer"),))
        if request.method not in READING:
            if not self.is_writable:
                text = "This dashboard is read-only; start it with --writable to allow changes."
                return Answer("405 Method Not Allowed", text, (("Allow", "GET, HEAD"),))
            if request.origin and request.origin not in (f"http://{request.host}", f"https://{request.host}"):
                return Answer("403 Forbidden", "The request comes from a page of another site.")
        if self._session is not None and any(name == _TOKEN for name, _ in parse_qsl(request.query)):
            return _remember(request, self._session)
        return None

    def _knows(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = _normalized(found["name"])
        return is_loopback(name) or name in self._hosts

    def _has_token(self, request: Request) -> bool:
        if self._token is None or self._session is None:
            return True
        presented = [value for name, value in parse_qsl(request.query) if name == _TOKEN]
        presented.append(request.authorization.removeprefix("Bearer "))
        # In constant time; otherwise the response time would reveal how much of a guess is right.
        is_shown = any(hmac.compare_digest(each.encode(), self._token.encode()) for each in presented)
        return is_shown or self._session.is_valid(request.cookie, time.time())


def _remember(request: Request, session: Session) -> Answer:
    # A cookie keeps the token out of the address bar, the history and the referrers.
    rest = urlencode([(name, value) for name, value in parse_qsl(request.query) if name != _TOKEN])
    # One slash: a browser takes //name for another site.
    path = "/" + quote(request.path.encode("latin-1")).lstrip("/")
    headers = (("Set-Cookie", session.set_cookie(time.time())), ("Location", path + (f"?{rest}" if rest else "")))
    return Answer("303 See Other", headers=headers)


def is_host_name(text: str) -> bool:
    """Return whether a text is a name or an address without a port, as `Access` takes it."""
    found = _HOST.fullmatch(text) or _HOST.fullmatch(f"[{text}]")
    return found is not None and found[2] is None


def is_loopback(host: str) -> bool:
    """Return whether a name or an address is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _normalized(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()
