"""How often a client may ask, and how much and how slowly it may send."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from ipaddress import ip_address
from typing import TYPE_CHECKING

from embedkit.server.failure import RequestError

if TYPE_CHECKING:
    from starlette.types import Message, Receive

__all__ = ["LimitedBody", "RateLimit"]

_CLIENTS = 10_000  # that are remembered
_IDLE_SECONDS = 10.0  # between two parts of a body
_SLOWEST = 16 * 1024  # bytes per second of a body, in the long run


class RateLimit:
    """A bucket of requests for each client; clients on this machine aren't limited.

    Args:
        rate: Requests per second and client; 0 is no limit.
    """

    def __init__(self, rate: float) -> None:
        self._rate, self._most = rate, max(2 * rate, 1)
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> None:
        """Counts a request.

        Args:
            address: The client's.

        Raises:
            RequestError: 429; the client asked too often.
        """
        if not self._rate or _is_here(address):
            return
        now = time.monotonic()
        with self._lock:
            left, then = self._buckets.pop(address, (self._most, now))
            left = min(left + (now - then) * self._rate, self._most)
            self._buckets[address] = (max(left - 1, left if left < 1 else 0), now)
            if len(self._buckets) > _CLIENTS:
                self._buckets.popitem(last=False)
        if left < 1:
            seconds = max(1, round((1 - left) / self._rate))
            raise RequestError(429, "too many requests", {"Retry-After": str(seconds)})


def _is_here(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


class LimitedBody:
    """Receives the body of a request, up to a size, and not too slowly.

    Args:
        receive: Where it comes from.
        max_bytes: The most bytes.
    """

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive, self._max_bytes = receive, max_bytes
        self._received = 0
        self._start = time.monotonic()
        self.is_whole = False

    async def __call__(self) -> Message:
        """The next part.

        Raises:
            RequestError: 413; the body is too large. 408; it comes too slowly.
        """
        if self.is_whole:  # what comes now is the client leaving
            return await self._receive()
        allowed = _IDLE_SECONDS + self._received / _SLOWEST - (time.monotonic() - self._start)
        try:
            async with asyncio.timeout(min(max(allowed, 0.001), _IDLE_SECONDS)):
                message = await self._receive()
        except TimeoutError:
            raise RequestError(408, "the body came too slowly", {"Connection": "close"}) from None
        self._received += len(message.get("body", b""))
        if self._received > self._max_bytes:
            raise too_large(self._max_bytes)
        self.is_whole = not message.get("more_body", False)
        return message


def too_large(max_bytes: int) -> RequestError:
    """The refusal of a body of more bytes."""
    return RequestError(
        413, f"the request is larger than {max_bytes:,} bytes", {"Connection": "close"}
    )
