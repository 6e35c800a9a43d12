"""Keeps the number of open connections bounded, and closes those that send or read too slowly."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from embedkit.server.metrics import Metrics

__all__ = ["Connections"]

_SECONDS = 10.0  # to send the head of a request, or to read a part of an answer
_Peer = tuple[str, int]


class Connections:
    """The open connections; those that wait for a request are closed first.

    Args:
        most: Open connections at once.
        metrics: Counts them.
    """

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most, self._metrics = most, metrics
        self._transports: dict[_Peer, asyncio.Transport] = {}
        self._idle: OrderedDict[_Peer, asyncio.TimerHandle] = OrderedDict()

    @property
    def protocol(self) -> type[asyncio.Protocol]:
        """What uvicorn speaks on each connection."""
        connections = self

        class LimitedProtocol(H11Protocol):
            """HTTP on a connection that is counted."""

            is_refused = False

            def connection_made(self, transport: Any) -> None:
                """A client has come."""
                self.is_refused = not connections.opened(transport)
                if not self.is_refused:
                    super().connection_made(transport)

            def data_received(self, data: bytes) -> None:
                """The client has sent something."""
                if not self.is_refused:
                    super().data_received(data)

            def eof_received(self) -> None:
                """The client sends no more."""
                if not self.is_refused:
                    super().eof_received()

            def connection_lost(self, exc: Exception | None) -> None:
                """The connection is gone."""
                if not self.is_refused:
                    connections.closed(self.transport)
                    super().connection_lost(exc)

        return LimitedProtocol

    def opened(self, transport: asyncio.Transport) -> bool:
        """Counts a connection; False if it is refused, as all others are answering requests."""
        if len(self._transports) >= self._most:
            if not self._idle:
                self._metrics.refused.labels("connections").inc()
                transport.abort()
                return False
            self._abort(next(iter(self._idle)))
        peer = _peer_of(transport)
        self._transports[peer] = transport
        self._metrics.connections.set(len(self._transports))
        self._wait(peer)
        return True

    def closed(self, transport: asyncio.Transport) -> None:
        """Forgets a connection."""
        peer = _peer_of(transport)
        if self._transports.get(peer) is transport:
            del self._transports[peer]
            self._stop_waiting(peer)
            self._metrics.connections.set(len(self._transports))

    def begin(self, client: _Peer | None) -> None:
        """A request has come whole, but for its body."""
        if client is not None:
            self._stop_waiting((client[0], client[1]))

    def end(self, client: _Peer | None) -> None:
        """A request is answered; the next one may come."""
        if client is not None and (peer := (client[0], client[1])) in self._transports:
            self._wait(peer)

    def abort(self, client: _Peer | None) -> None:
        """Closes a connection at once."""
        if client is not None and (peer := (client[0], client[1])) in self._transports:
            self._abort(peer)

    def _wait(self, peer: _Peer, unread: int | None = None) -> None:
        self._stop_waiting(peer)
        loop = asyncio.get_running_loop()
        self._idle[peer] = loop.call_later(_SECONDS, self._expire, peer, unread)

    def _stop_waiting(self, peer: _Peer) -> None:
        if (timer := self._idle.pop(peer, None)) is not None:
            timer.cancel()

    def _expire(self, peer: _Peer, unread: int | None) -> None:
        """Closes a connection that was quiet, unless it still reads an answer."""
        left = self._transports[peer].get_write_buffer_size()
        if left and (unread is None or left < unread):
            self._wait(peer, left)
        else:
            self._abort(peer)

    def _abort(self, peer: _Peer) -> None:
        transport = self._transports.pop(peer)
        self._stop_waiting(peer)
        self._metrics.refused.labels("quiet").inc()
        transport.abort()


def _peer_of(transport: asyncio.Transport) -> _Peer:
    name = transport.get_extra_info("peername")
    return (name[0], name[1]) if name else ("", id(transport))
