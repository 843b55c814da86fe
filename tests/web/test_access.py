"""Who may see the dashboard: hosts, tokens, cookies, and pages of other sites."""

from __future__ import annotations

import time
from http.cookies import SimpleCookie

import pytest

from search.web.access import Access, Request, is_host_name
from search.web.answers import Answer
from search.web.session import LIFETIME_S, Session, parse_cookies

TOKEN = "0123456789abcdef0123"


def request(**changes: str) -> Request:
    plain = {"method": "GET", "path": "/", "query": "", "host": "localhost:8080", "origin": "", "cookie": ""}
    return Request(**{**plain, "authorization": "", **changes})


def code(access: Access, **changes: str) -> int:
    """The status of the answer; 0 if the dashboard gets the request."""
    answer = access.answer(request(**changes))
    return 0 if answer is None else int(answer.status.split()[0])


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "LOCALHOST.:1",
        "127.0.0.1:8080",
        "127.8.9.1",
        "[::1]:8080",
        "[::1]",
        "10.1.2.3:80",
    ],
)
def test_known_hosts(host: str) -> None:
    assert code(Access(["10.1.2.3"], writable=False, token=None), host=host) == 0


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "evil.example:8080", "localhost.evil.example", "localhost@evil.example", "10.1.2.4"),
        *("127.0.0.1.evil.example", "evil.example#localhost", "localhost, evil.example", "localhost/", " localhost"),
        *("[::2]", "[::1", "::1", "localhost:8080:1", "localhost:x", "ｌocalhost", "local\x00host"),
    ],
)
@pytest.mark.parametrize("token", [None, TOKEN])
def test_unknown_hosts(host: str, token: str | None) -> None:
    access = Access(["10.1.2.3"], writable=True, token=token)
    shown = f"Bearer {TOKEN}"
    assert code(access, host=host, authorization=shown) == 403
    assert code(access, host=host, method="DELETE", authorization=shown, origin=f"http://{host}") == 403
    assert code(access, host=host, path="/healthz") == 200
    answer = access.answer(request(host=host))
    assert answer is not None
    assert "--allow-host" in answer.text


def test_allowed_names_are_compared_without_case_and_port() -> None:
    access = Access(["Search.Example.org", "fe80::1"], writable=False, token=None)
    assert code(access, host="search.example.ORG:8080") == 0
    assert code(access, host="[FE80::1]:8080") == 0
    assert code(access, host="example.org") == 403
    names = ("a", "a.b-c_d", "10.0.0.1", "::1", "[::1]")
    assert all(is_host_name(name) for name in names)
    wrong = ("", "a:80", "http://a", "a/", "a b", "*", "[::1]:80")
    assert not any(is_host_name(name) for name in wrong)


def cookie_of(answer: Answer | None) -> str:
    assert answer is not None
    return dict(answer.headers)["Set-Cookie"]


OTHERS = (
    'prefs={"a": 1}; {}',
    "{}; prefs=[1, 2]",
    "a; b=; =c; ;;; {}",
    'theme="dark; {}',
    "k\xe4se=\xff; {}",
    '_xsrf=2|a|b|1; username-localhost-8888="2|1:0|10:1|23:u|44:a==|b"; {}',
    "{}=wrong; {}",
    "x={}; {}",
)


@pytest.mark.parametrize("others", OTHERS)
def test_session_beside_cookies_of_other_programs(others: str) -> None:
    access = Access(writable=False, token=TOKEN)
    pair = cookie_of(access.answer(request(query=f"token={TOKEN}"))).split(";")[0]
    assert code(access, cookie=others.replace("{}=wrong", pair.split("=")[0] + "=wrong").replace("{}", pair)) == 0
    assert code(access, cookie=others.replace("{}", "")) == 401


def test_the_cookie_is_derived_from_the_token_and_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access(writable=False, token=TOKEN)
    text = cookie_of(access.answer(request(query=f"token={TOKEN}")))
    assert TOKEN not in text
    [(name, morsel)] = SimpleCookie(text).items()
    assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Strict", "/")
    assert int(morsel["max-age"]) == LIFETIME_S
    cookie = f"{name}={morsel.value}"
    assert code(access, cookie=cookie) == 0
    assert code(Access(writable=False, token=TOKEN[::-1]), cookie=cookie) == 401
    later = time.time() + LIFETIME_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert code(access, cookie=cookie) == 401


def test_forged_cookies() -> None:
    access = Access(writable=False, token=TOKEN)
    name, value = cookie_of(access.answer(request(query=f"token={TOKEN}"))).split(";")[0].split("=")
    expiry, digest = value.split(".")
    later = f"{int(expiry) + 1}.{digest}"
    for forged in (TOKEN, later, expiry, f"{expiry}.", f".{digest}", f"-1.{digest}", "", "x.y", f"{expiry}.{digest}0"):
        assert code(access, cookie=f"{name}={forged}") == 401, forged
    assert code(access, cookie=f"lm-search-token={TOKEN}") == 401


def test_two_dashboards_on_one_host_have_cookies_of_their_own() -> None:
    assert Session(TOKEN).cookie != Session(TOKEN[::-1]).cookie
    assert list(parse_cookies('a=1;b="2" ; c = 3=4')) == [("a", "1"), ("b", "2"), ("c", "3=4")]


@pytest.mark.parametrize(
    ("path", "query", "location"),
    [
        ("/", "token={}", "/"),
        ("/dashboard/studies/1", "numbers=3&token={}&a=b c", "/dashboard/studies/1?numbers=3&a=b+c"),
        ("//evil.example/x", "token={}", "/evil.example/x"),
        ("/a\r\nSet-Cookie: b", "token={}", "/a%0D%0ASet-Cookie%3A%20b"),
        ("/\xff", "token={}", "/%FF"),
        ("", "token={}", "/"),
    ],
)
def test_the_token_leaves_the_address_and_the_page_stays(path: str, query: str, location: str) -> None:
    answer = Access(writable=False, token=TOKEN).answer(request(path=path, query=query.format(TOKEN)))
    assert answer is not None
    assert answer.status.startswith("303")
    assert dict(answer.headers)["Location"] == location


def test_wrong_tokens() -> None:
    access = Access(writable=False, token=TOKEN)
    for shown in ("", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}0", "Bearer \xff", f"Bearer  {TOKEN}"):
        assert code(access, authorization=shown) == 401, shown
    for query in ("token=", "token=%ff", f"token={TOKEN[:-1]}", f"tokens={TOKEN}", f"token%5B%5D={TOKEN}"):
        assert code(access, query=query) == 401, query


def test_pages_of_other_sites_change_nothing() -> None:
    access = Access(["10.1.2.3"], writable=True, token=None)
    for origin in ("http://evil.example", "null", "http://localhost:8081", "http://10.1.2.3:8080", "http://[", "x"):
        assert code(access, method="POST", origin=origin) == 403, origin
    for origin in ("http://localhost:8080", "https://localhost:8080", ""):
        assert code(access, method="POST", origin=origin) == 0
    assert code(Access(writable=False, token=None), method="POST", origin="http://localhost:8080") == 405
