"""Starts and stops the service in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvicorn

from embedkit.server.app import make_app
from embedkit.server.connections import Connections
from embedkit.server.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedkit.server.settings import ServerSettings

__all__ = ["serve"]

_STOP_SECONDS = 20


def serve(settings: ServerSettings, on_start: Callable[[str], None] | None = None) -> None:
    """Serves until the process gets SIGINT or SIGTERM; then running requests are finished.

    Args:
        settings: What is served.
        on_start: Called with the address when the service listens.

    Raises:
        EmbedkitError: An index or the near-duplicates can't be opened.
        OSError: The address can't be listened at.
    """
    _allow_files(2 * settings.max_connections)
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
    socket = config.bind_socket()
    if on_start is not None:
        host, port = socket.getsockname()[:2]
        on_start(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    uvicorn.Server(config).run(sockets=[socket])


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
