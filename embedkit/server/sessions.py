"""Who may use the service: the bearer token, or a cookie that was given for it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

__all__ = ["COOKIE", "Sessions"]

COOKIE = "embedkit_session"
LIFETIME = 12 * 3600
"""Seconds that a session lasts."""
_MOST = 1000


class Sessions:
    """The token and the sessions that were opened with it.

    Args:
        token: What a client must know; None lets everybody in.
    """

    def __init__(self, token: str | None) -> None:
        self._digest = None if token is None else _digest(token)
        self._lock = threading.Lock()
        self._ends: OrderedDict[bytes, float] = OrderedDict()

    @property
    def needs_token(self) -> bool:
        """Whether a client needs the token."""
        return self._digest is not None

    def allows(self, connection: HTTPConnection) -> bool:
        """Whether a request has the token or a session."""
        if self._digest is None:
            return True
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_token(token.strip())
        return self._is_open(connection.cookies.get(COOKIE, ""))

    def is_token(self, text: str) -> bool:
        """Whether this is the token; takes the same time for each text."""
        return self._digest is not None and hmac.compare_digest(_digest(text), self._digest)

    def open(self) -> str:
        """Opens a session and returns its secret, for the cookie."""
        secret = secrets.token_urlsafe(32)
        with self._lock:
            self._ends[_digest(secret)] = time.monotonic() + LIFETIME
            if len(self._ends) > _MOST:
                self._ends.popitem(last=False)
        return secret

    def end(self, secret: str) -> None:
        """Ends a session."""
        with self._lock:
            self._ends.pop(_digest(secret), None)

    def _is_open(self, secret: str) -> bool:
        with self._lock:
            return self._ends.get(_digest(secret), 0.0) > time.monotonic()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
