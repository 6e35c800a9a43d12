"""One request, checked: what a handler works with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.responses import Response

from embedkit.server.failure import RequestError
from embedkit.tabular import valid_text
from embedkit.utils.json import finite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from starlette.requests import Request

    from embedkit.server.indexes import Lease
    from embedkit.server.served_index import ServedIndex
    from embedkit.server.service import Service

__all__ = ["Call", "answer", "shown_name"]


@dataclass(frozen=True, slots=True)
class Call:
    """A request of a route.

    Attributes:
        service: The service.
        request: The request.
        query: The values of its query parameters.
        body: The JSON body, checked; None if the route takes none or another one came.
        lent: The index that it is about; None if the route is about none.
    """

    service: Service
    request: Request
    query: Mapping[str, Any]
    body: Any
    lent: Lease | None

    @property
    def lease(self) -> Lease:
        """The index that it is about, with all that is known of it."""
        assert self.lent is not None  # by the route's own declaration
        return self.lent

    @property
    def served(self) -> ServedIndex:
        """The index that it is about."""
        return self.lease.served

    async def respond(self, make: Callable[..., Any], *args: Any, status: int = 200) -> Response:
        """Answers with the value of a function; it and the JSON are made in a thread."""
        return await self.service.run(lambda: answer(make(*args), status))

    def row(self, key: str) -> int:
        """The row of an image by its opaque name.

        Raises:
            RequestError: 404; there is none.
        """
        found = self.served.keys.row(key)
        if found is None:
            raise RequestError(404, "there is no image of this id in the index")
        return found

    def items(self, rows: Iterable[int]) -> list[dict[str, Any]]:
        """What is shown of the images of some rows."""
        served, pictures = self.served, self.lease.pictures
        numbers = list(rows)
        return [
            {
                "id": served.keys.key(name),
                "name": shown_name(name, show_paths=self.service.settings.show_paths),
                "width": int(served.width[row]),
                "height": int(served.height[row]),
                "label": None if (label := served.label(row)) is None else valid_text(label),
                "has_image": pictures.has(row),
            }
            for row, name in zip(numbers, served.ids(numbers), strict=True)
        ]

    def named(self, rows: Sequence[int], text: str) -> NDArray[np.bool_]:
        """Which of some rows have a text in the name that is shown, ``(n,)`` bool."""
        words, show_paths = text.casefold(), self.service.settings.show_paths
        names = (shown_name(name, show_paths=show_paths) for name in self.served.ids(rows))
        return np.fromiter((words in name.casefold() for name in names), bool, len(rows))


def shown_name(image_id: str, *, show_paths: bool) -> str:
    """What stands for an id on the page: the id, or the last part of it."""
    if show_paths:
        return valid_text(image_id)
    return valid_text(image_id.replace("#", "/").rstrip("/").rpartition("/")[2])


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer; NumPy's numbers become Python's, and what isn't finite null."""
    text = json.dumps(finite(value), default=_plain, allow_nan=False, separators=(",", ":"))
    return Response(
        text, status, {"Cache-Control": "no-store", **(headers or {})}, "application/json"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return finite(value.item())
    raise TypeError(f"{type(value).__name__} isn't JSON")
