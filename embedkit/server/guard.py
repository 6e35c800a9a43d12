"""What every request passes: names of the host, sizes, origins, and the headers of each answer."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

from embedkit.server.call import answer
from embedkit.server.failure import RequestError
from embedkit.server.limits import LimitedBody, too_large

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from embedkit.server.connections import Connections
    from embedkit.server.metrics import Metrics
    from embedkit.server.settings import ServerSettings

__all__ = ["Guard", "check_origin", "refusal"]

_HEADERS = {
    "Cache-Control": "no-cache",  # a newer embedkit's page isn't mixed with an older one's
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_SAFE = {"GET", "HEAD", "OPTIONS"}
_READ_SECONDS = 60.0  # for a part of an answer
_HOST = re.compile(r"([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?", re.ASCII)
_WRITE_HEADER = "x-embedkit"


def refusal(exc: RequestError) -> Response:
    """The answer that says why a request is refused."""
    return answer({"error": exc.message}, exc.status, exc.headers)


class Guard:
    """Refuses requests that no route should see.

    Attributes:
        app: Answers the others.

    Args:
        app: Answers the others.
        settings: The limits.
        metrics: Counts refusals.
        connections: The open connections.
    """

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, metrics: Metrics, connections: Connections
    ) -> None:
        self.app, self._settings, self._metrics = app, settings, metrics
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        client = scope.get("client")
        self._connections.begin(client)
        try:
            await self._answer(scope, receive, send)
        finally:
            self._connections.end(client)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            try:
                async with asyncio.timeout(_READ_SECONDS):
                    await send(message)
            except TimeoutError:  # the client reads nothing
                self._connections.abort(scope.get("client"))

        headers = Headers(scope=scope)
        body = LimitedBody(receive, self._settings.max_upload)
        try:
            self._check_host(headers)
            self._check_length(headers)
        except RequestError as exc:
            self._metrics.refused.labels(str(exc.status)).inc()
            await refusal(exc)(scope, receive, send_guarded)
            return
        await self.app(scope, body, send_guarded)

    def _check_host(self, headers: Headers) -> None:
        """Refuses other names of this machine, as a page of another site may have it under one."""
        names = headers.getlist("host")
        if len(names) != 1 or _name_of(names[0]) not in self._settings.hosts:
            raise RequestError(400, "the Host header isn't a name of this service (--allow-host)")

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            raise RequestError(400, "the Content-Length header is no number")
        if int(length) > self._settings.max_upload:
            raise too_large(self._settings.max_upload)


def _name_of(host: str) -> str:
    """The name in a Host header, without the port, lower case; empty if it is none."""
    found = _HOST.fullmatch(host.lower())
    return "" if found is None else found[1].strip("[]").removesuffix(".")


def check_origin(method: str, headers: Headers, *, is_write: bool) -> None:
    """Refuses what a page of another site asks for.

    Args:
        method: Of the request.
        headers: Of the request.
        is_write: Whether it changes something.

    Raises:
        RequestError: 403; another site asks, or a write lacks the header that only a page of this
            site can send.
    """
    site = headers.get("sec-fetch-site", "same-origin")
    if site not in {"same-origin", "none"}:
        raise RequestError(403, "the request comes from a page of another site")
    origin = headers.get("origin")
    if method not in _SAFE and origin is not None:
        host = headers.get("host", "")
        if origin.partition("://")[2] != host:
            raise RequestError(403, "the request comes from a page of another site")
    if is_write and headers.get(_WRITE_HEADER) != "1":
        raise RequestError(403, "a write needs the header X-Embedkit: 1")
