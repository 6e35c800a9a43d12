"""What a request is refused with: a status and one plain line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RequestError"]


class RequestError(Exception):
    """A request that isn't answered with what it asks for.

    Attributes:
        status: The HTTP status, 400 to 599.
        message: One line for the one who asks; it names no path of the server.
        headers: More headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.headers = dict(headers or {})
