"""The cookie of a visitor who has shown the token: it is derived from the token, and it expires."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator

LIFETIME_S = 7 * 24 * 3600


class Session:
    """Issues and checks the cookie of one dashboard.

    The cookie holds the time of its expiry and an HMAC of it: the token cannot be derived from it, and a new token ends
    all sessions.

    Args:
        token: The dashboard's token.
    """

    def __init__(self, token: str) -> None:
        self._key = token.encode()
        # Programs on other ports of one host share its cookies: two dashboards must not overwrite each other's.
        self.cookie = f"lm-search-{self._digest('name')[:12]}"

    def set_cookie(self, now_s: float) -> str:
        """Return the value of a Set-Cookie header.

        Args:
            now_s: Seconds since 1970.
        """
        expiry = str(int(now_s) + LIFETIME_S)
        value = f"{expiry}.{self._digest(expiry)}"
        return f"{self.cookie}={value}; Max-Age={LIFETIME_S}; HttpOnly; SameSite=Strict; Path=/"

    def is_valid(self, cookies: str, now_s: float) -> bool:
        """Return whether a Cookie header has a valid cookie of this dashboard that has not expired."""
        return any(self._is_valid(value, now_s) for name, value in parse_cookies(cookies) if name == self.cookie)

    def _is_valid(self, value: str, now_s: float) -> bool:
        expiry, _, digest = value.partition(".")
        # In constant time; otherwise the response time would reveal how much of a guess is right.
        is_ours = hmac.compare_digest(digest.encode(), self._digest(expiry).encode())
        return is_ours and int(expiry) > now_s

    def _digest(self, text: str) -> str:
        return hmac.new(self._key, f"lm-search session {text}".encode(), hashlib.sha256).hexdigest()


def parse_cookies(header: str) -> Iterator[tuple[str, str]]:
    """Yield name and value of each cookie of a Cookie header.

    `http.cookies` drops all cookies after one that it cannot read, such as another local program's `prefs={"a": 1}`.
    """
    for part in header.split(";"):
        name, equals, value = part.partition("=")
        if equals:
            yield name.strip(), value.strip().strip('"')
