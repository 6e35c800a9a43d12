"""The settings of the service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from embedkit.retrieval.query_embedder import EmbedderConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["LOOPBACK", "ServerSettings"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_WILDCARDS = ("", "0.0.0.0", "::")
_SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What is served, to whom, and within which limits.

    Attributes:
        indexes: Indexes or stores.
        dups: A folder of ``find_duplicates`` to review; None for none.
        images: The sources that the images are of, where these lie now; empty takes the ids for
            paths.
        host: The address to listen at.
        port: The port; 0 takes a free one.
        token: What a client must know; None lets every program of this machine in.
        allowed_hosts: More names that a request's Host header may have.
        show_paths: Whether whole ids, which are paths, are shown.
        max_upload: The largest request, bytes.
        queue: Images that may wait to be embedded; more are refused with 503.
        rate: Costly requests per second that a client on another machine may send; 0 is no limit.
        max_connections: Open connections; beyond these the ones that sent no request are closed.
        reload_every: Seconds between two looks for a changed index; 0 never looks.
        embedder: How images are embedded.

    Raises:
        ValueError: A number is out of its range, the token is short, or the address is open to
            other machines and there is no token.
    """

    indexes: Sequence[Path]
    dups: Path | None = None
    images: Sequence[Path] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    allowed_hosts: Sequence[str] = ()
    show_paths: bool = False
    max_upload: int = 64 * 2**20
    queue: int = 256
    rate: float = 50.0
    max_connections: int = 1000
    reload_every: float = 2.0
    embedder: EmbedderConfig = field(default_factory=EmbedderConfig)

    def __post_init__(self) -> None:
        if not self.indexes:
            raise ValueError("nothing to serve: give an index or a store")
        for name in ("max_upload", "queue", "max_connections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if min(self.rate, self.reload_every) < 0 or not 0 <= self.port <= 65535:
            raise ValueError("rate and reload_every must be 0 or more, port from 0 to 65535")
        if self.token is not None and len(self.token) < _SHORTEST_TOKEN:
            raise ValueError(
                f"the token must have at least {_SHORTEST_TOKEN} characters: "
                "`openssl rand -hex 24` makes one"
            )
        if self.token is None and self.host not in LOOPBACK:
            raise ValueError(
                f"{self.host} is open to other machines, so a token is needed: token=TEXT, such as "
                "`openssl rand -hex 24` makes"
            )

    @property
    def hosts(self) -> frozenset[str]:
        """The names that a request's Host header may have, without ports, lower case."""
        own = () if self.host in _WILDCARDS else (self.host,)
        return frozenset(name.lower() for name in (*LOOPBACK, *own, *self.allowed_hosts))
