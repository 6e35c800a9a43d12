"""One route of the API: its handler, and all that its document and its checks need."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from embedkit.server.failure import RequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.datastructures import QueryParams
    from starlette.responses import Response

    from embedkit.server.call import Call
    from embedkit.server.schema import Schema

    Handler = Callable[[Call], Awaitable[Response]]

__all__ = ["Endpoint", "Parameter"]

Kind = Literal["string", "integer", "number", "boolean"]

_INTEGER = re.compile(r"-?\d{1,15}", re.ASCII)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter.

    Attributes:
        name: Its name.
        kind: Its type.
        description: What it says, for the document.
        default: Its value if it isn't given.
        minimum: The least number.
        maximum: The greatest number.
        choices: The values that there are; empty allows any.
        is_list: Whether it may be given several times; its value is a list then.
        is_required: Whether it must be given.
    """

    name: str
    kind: Kind
    description: str
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    choices: Sequence[str | int] = ()
    is_list: bool = False
    is_required: bool = False

    def schema(self) -> Schema:
        """The JSON schema of its value."""
        one: Schema = {"type": self.kind}
        if self.minimum is not None:
            one["minimum"] = self.minimum
        if self.maximum is not None:
            one["maximum"] = self.maximum
        if self.choices:
            one["enum"] = list(self.choices)
        if self.is_list:
            return {"type": "array", "items": one}
        return one if self.default is None else {**one, "default": self.default}

    def read(self, query: QueryParams) -> Any:
        """Its value in a request.

        Raises:
            RequestError: 400; the value can't be that.
        """
        texts = query.getlist(self.name)
        if self.is_required and not texts:
            raise RequestError(400, f"the query parameter {self.name} is needed")
        if self.is_list:
            return [self._value(text) for text in texts]
        if len(texts) > 1:
            raise RequestError(400, f"the query parameter {self.name} is given twice")
        return self._value(texts[0]) if texts else self.default

    def _value(self, text: str) -> Any:
        value = _READERS[self.kind](text)
        if value is None:
            raise RequestError(400, f"{self.name} must be of type {self.kind}")
        if self.choices and value not in self.choices:
            raise RequestError(400, f"{self.name} must be one of {_listed(self.choices)}")
        too_low = self.minimum is not None and value < self.minimum
        if too_low or (self.maximum is not None and value > self.maximum):
            low = "" if self.minimum is None else f" from {self.minimum:,}"
            high = "" if self.maximum is None else f" to {self.maximum:,}"
            raise RequestError(400, f"{self.name} must be a number{low}{high}")
        return value


def _integer(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


_READERS: Mapping[Kind, Callable[[str], Any]] = {
    "string": str,
    "integer": _integer,
    "number": _number,
    "boolean": lambda text: _BOOLEANS.get(text.lower()),
}


def _listed(choices: Sequence[str | int]) -> str:
    return ", ".join(map(str, choices))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route of the API.

    Attributes:
        method: ``GET``, ``POST`` or ``DELETE``.
        path: As starlette and OpenAPI write it, such as ``/v1/items/{id}``.
        handler: Answers a call.
        summary: What it does, in a line.
        parameters: Query parameters.
        path_parameters: Name and description of each part of the path that varies.
        body: Media type to schema of the request's body; empty if it has none.
        response: The schema of a successful JSON answer.
        media_type: Of a successful answer.
        statuses: Other statuses that it answers with, besides those that any route may.
        is_public: Whether it is answered without the token.
        is_write: Whether it changes something, so that no other site may cause it.
        is_costly: Whether it counts for the rate limit.
        needs_index: Whether it is about one of the indexes, which ``?index=`` names.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    handler: Handler
    summary: str
    parameters: Sequence[Parameter] = ()
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Schema] = field(default_factory=dict)
    response: Schema = field(default_factory=lambda: {"type": "object"})
    media_type: str = "application/json"
    statuses: Mapping[int, str] = field(default_factory=dict)
    is_public: bool = False
    is_write: bool = False
    is_costly: bool = False
    needs_index: bool = True

    def query(self, given: QueryParams) -> dict[str, Any]:
        """The values of the query parameters of a request.

        Raises:
            RequestError: 400; one can't be read.
        """
        return {one.name: one.read(given) for one in self.parameters}
