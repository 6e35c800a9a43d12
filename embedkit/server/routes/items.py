"""Images of an index: lists, details, columns, pictures."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from embedkit.errors import DecodeError
from embedkit.server.columns import describe_column, row_values
from embedkit.server.endpoint import Endpoint, Parameter
from embedkit.server.failure import RequestError
from embedkit.server.routes.filters import FILTER, check_filters
from embedkit.server.routes.schemas import (
    INTEGER,
    ITEM,
    NUMBER,
    TEXT,
    list_of,
    or_null,
    page_of,
    table,
)
from embedkit.server.searching import SearchOptions, command_of, query_of_row

if TYPE_CHECKING:
    from embedkit.server.call import Call
    from embedkit.server.pictures import BrowserImage

__all__ = ["ENDPOINTS", "PAGE"]

_MOST_ITEMS = 1000
PAGE = (
    Parameter("offset", "integer", "Entries to leave out at the beginning.", 0, 0, 10**9),
    Parameter("limit", "integer", "Entries, at most.", 100, 1, _MOST_ITEMS),
)
_ID = {"id": "The opaque id of an image."}
_NO_IMAGE = {404: "No such image, or its file isn't there any more."}


async def _items(call: Call) -> Response:
    query = call.query
    return await call.respond(_page, call, query)


def _page(call: Call, query: dict[str, Any]) -> dict[str, Any]:
    served = call.served
    if (sort := query["sort"]) and sort not in _sortable(call):
        raise RequestError(400, f"there is no column {sort[:80]!r} to sort by")
    filters = check_filters(call, query["filter"])
    rows = served.order(filters, sort, descending=query["order"] == "desc")
    if query["name"]:
        rows = rows[call.named(rows.tolist(), query["name"])]
    some = rows[query["offset"] : query["offset"] + query["limit"]].tolist()
    return {"total": len(rows), "items": call.items(some)}


def _sortable(call: Call) -> tuple[str, ...]:
    paths = ("path",) if call.service.settings.show_paths else ()
    return (*call.served.column_names, *paths)


async def _item(call: Call) -> Response:
    return await call.respond(_details, call)


def _details(call: Call) -> dict[str, Any]:
    row = call.row(call.request.path_params["id"])
    options = SearchOptions(50, 0, None, (), exclude_self=False)
    show_paths = call.service.settings.show_paths
    query = query_of_row(call.served, row)
    return {
        "item": call.items([row])[0],
        "columns": row_values(call.served, row),
        "command": command_of(call.served, query, options, show_paths=show_paths),
    }


async def _columns(call: Call) -> Response:
    return await call.respond(_described, call)


def _described(call: Call) -> dict[str, Any]:
    served = call.served
    columns = [describe_column(served, name) for name in served.column_names]
    if call.service.settings.show_paths:
        columns.append({"name": "path", "kind": "text", "min": None, "max": None, "values": []})
    return {"columns": columns}


async def _thumb(call: Call) -> Response:
    row, side = call.row(call.request.path_params["id"]), call.query["size"]
    tag = _tag(call, row, str(side))
    if call.request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=_caching(tag))
    made = await _picture(call, lambda: call.lease.pictures.thumbnail(row, side))
    return Response(made, headers=_caching(tag), media_type="image/jpeg")


async def _image(call: Call) -> Response:
    row = call.row(call.request.path_params["id"])
    tag = _tag(call, row, "original")
    if call.request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=_caching(tag))
    found: BrowserImage = await _picture(call, lambda: call.lease.pictures.original(row))
    return Response(found.data, headers=_caching(tag), media_type=found.media_type)


async def _picture(call: Call, make: Any) -> Any:
    try:
        return await call.service.run(make)
    except DecodeError as exc:
        reason = call.service.public(exc.reason)
        raise RequestError(404, f"the image can't be shown: {reason}") from exc


def _tag(call: Call, row: int, variant: str) -> str:
    content = call.served.hashes[row].tobytes() + variant.encode() + call.service.secret
    return f'"{hashlib.sha256(content).hexdigest()[:24]}"'


def _caching(tag: str) -> dict[str, str]:
    return {"ETag": tag, "Cache-Control": "private, max-age=3600"}


_COLUMNS = table(
    columns=list_of(
        table(
            name=TEXT,
            kind={"type": "string", "enum": ["number", "text", "category"]},
            min=or_null(NUMBER),
            max=or_null(NUMBER),
            values=list_of(table(value=TEXT, count=INTEGER)),
        )
    )
)
ENDPOINTS = (
    Endpoint(
        "GET",
        "/v1/items",
        _items,
        "List images.",
        parameters=(
            FILTER,
            Parameter("name", "string", "Text in the shown name; capitals don't count.", ""),
            Parameter("sort", "string", "A column to sort by; else in the index's order.", ""),
            Parameter("order", "string", "asc or desc.", "asc", choices=("asc", "desc")),
            *PAGE,
        ),
        response=page_of(),
    ),
    Endpoint(
        "GET",
        "/v1/items/{id}",
        _item,
        "Describe an image.",
        path_parameters=_ID,
        response=table(item=ITEM, columns={"type": "object"}, command=TEXT),
        statuses=_NO_IMAGE,
    ),
    Endpoint("GET", "/v1/columns", _columns, "Describe the columns.", response=_COLUMNS),
    Endpoint(
        "GET",
        "/thumb/{id}",
        _thumb,
        "A small JPEG of an image.",
        path_parameters=_ID,
        parameters=(
            Parameter("size", "integer", "The longer side, pixels.", 256, choices=(128, 256, 512)),
        ),
        media_type="image/jpeg",
        statuses=_NO_IMAGE,
    ),
    Endpoint(
        "GET",
        "/image/{id}",
        _image,
        "The image itself, or a PNG of it.",
        path_parameters=_ID,
        media_type="image/*",
        statuses=_NO_IMAGE,
    ),
)
