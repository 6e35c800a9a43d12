"""Starts and stops the service in this process."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from embedkit.errors import ServiceError
from embedkit.server.app import make_app
from embedkit.server.connections import Connections
from embedkit.server.service import Service
from embedkit.utils.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedkit.server.settings import ServerSettings

__all__ = ["serve"]

_STOP_SECONDS = 20


def serve(settings: ServerSettings, on_start: Callable[[str], None] | None = None) -> None:
    """Serves until the process gets SIGINT or SIGTERM; then running requests are finished.

    Args:
        settings: What is served.
        on_start: Called with the address when the service listens.

    Raises:
        EmbedkitError: An index or the near-duplicates can't be opened, or the address can't be
            listened at.
    """
    _allow_files(2 * settings.max_connections)
    with silent():  # nobody waits for what is read
        service = Service(settings)
    connections = Connections(settings.max_connections, service.metrics)
    config = uvicorn.Config(
        make_app(service, connections),
        http=connections.protocol,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=8,
        timeout_graceful_shutdown=_STOP_SECONDS,
        h11_max_incomplete_event_size=32 * 1024,
    )
    with _bound(settings) as listener, silent():  # nobody waits for the backbone's progress
        _Server(config, on_start).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[str], None] | None) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        await super().startup(sockets)
        if self.started and sockets and self._on_start is not None:
            host, port = sockets[0].getsockname()[:2]
            self._on_start(f"http://{f'[{host}]' if ':' in host else host}:{port}")


@contextmanager
def _bound(settings: ServerSettings) -> Iterator[socket.socket]:
    """The socket to listen at, which is closed at the end."""
    family, *_, address = socket.getaddrinfo(
        settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as exc:
            raise ServiceError(
                f"{settings.host}:{settings.port}: can't be listened at: {exc.strerror or exc}"
            ) from exc
        yield listener


def _allow_files(count: int) -> None:
    """Raises the limit on open files, as far as the system lets it."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
