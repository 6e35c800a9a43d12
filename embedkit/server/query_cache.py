"""Remembers the queries of searches, so that their next page needs no new upload."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedkit.server.failure import RequestError

if TYPE_CHECKING:
    from embedkit.retrieval.queries import QueryBatch

__all__ = ["QueryCache", "SearchQuery"]


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What was searched with.

    Attributes:
        batch: The embeddings.
        command_name: How a command of the shell names the query; None if it can't.
    """

    batch: QueryBatch
    command_name: str | None


class QueryCache:
    """The last queries by token.

    Args:
        size: How many are kept.
    """

    def __init__(self, size: int = 4096) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, SearchQuery] = OrderedDict()

    def add(self, query: SearchQuery) -> str:
        """Remembers a query and returns its token."""
        token = secrets.token_urlsafe(12)
        with self._lock:
            self._kept[token] = query
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return token

    def get(self, token: str) -> SearchQuery:
        """The query of a token.

        Raises:
            RequestError: 404; it is unknown or was forgotten.
        """
        with self._lock:
            if token not in self._kept:
                raise RequestError(404, "this query is forgotten: send the image again")
            self._kept.move_to_end(token)
            return self._kept[token]
