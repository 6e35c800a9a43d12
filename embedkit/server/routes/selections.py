"""Named selections of images, kept beside the store."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.responses import Response

from embedkit.retrieval.selections import list_selections, read_selection
from embedkit.server.call import answer
from embedkit.server.endpoint import Endpoint, Parameter
from embedkit.server.failure import RequestError
from embedkit.server.routes.filters import check_filters
from embedkit.server.routes.schemas import INTEGER, NUMBER, TEXT, list_of, table
from embedkit.server.uploads import JSON
from embedkit.tabular import valid_text
from embedkit.utils.table_writers import Column, open_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.retrieval.selections import Selection
    from embedkit.server.call import Call

__all__ = ["ENDPOINTS"]

_NEW = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 64},
        "ids": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "rows": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
        "filter": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    },
    "required": ["name"],
    "additionalProperties": False,
    "minProperties": 2,
    "maxProperties": 2,
}
_NAME = {"name": "The name of a selection."}
_NONE = {404: "No such selection."}
_MEDIA = {"ids": "text/plain", "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


async def _list(call: Call) -> Response:
    return answer({"selections": await call.service.run(_listed, call)})


def _listed(call: Call) -> list[dict[str, Any]]:
    found: dict[str, list[Selection]] = {}
    for path in call.served.store_paths:
        for one in list_selections(path):
            found.setdefault(one.name, []).append(one)
    return [
        {
            "name": name,
            "size": sum(len(one.ids()) for one in parts),
            "created": max(one.created for one in parts),
        }
        for name, parts in sorted(found.items())
    ]


async def _add(call: Call) -> Response:
    return await call.respond(_added, call, status=201)


def _added(call: Call) -> dict[str, Any]:
    """Writes each store's part of the selection beside it."""
    body, served = call.body, call.served
    rows = _rows(call, body)
    parts = [read_selection(path, body["name"]) for path in served.store_paths]
    starts = np.cumsum([0, *(len(store) for store in served.metadata.stores)])
    for part, start, stop in zip(parts, starts[:-1], starts[1:], strict=True):
        mine = rows[(rows >= start) & (rows < stop)]
        if len(mine) or len(parts) == 1:
            part.write(served.ids(mine))
        else:
            part.path.unlink(missing_ok=True)
    created = max(part.created for part in parts if part.path.exists())
    return {"name": body["name"], "size": len(rows), "created": created}


def _rows(call: Call, body: dict[str, Any]) -> NDArray[np.int64]:
    """The rows that a new selection is of, each once.

    Raises:
        RequestError: 400; there is none, or an image isn't there.
    """
    if "filter" in body:
        rows = np.flatnonzero(call.served.matching(check_filters(call, body["filter"])))
    elif "ids" in body:
        rows = call.served.keys.rows(body["ids"])
    elif "rows" in body:
        rows = np.array(body["rows"], np.int64)
    else:
        raise RequestError(400, "the body needs ids, rows or filter")
    if not len(rows):
        raise RequestError(400, "no image is selected")
    if rows.min() < 0 or rows.max() >= len(call.served):
        raise RequestError(400, "one of the images isn't in the index")
    return np.unique(rows)


def _parts(call: Call) -> list[Selection]:
    """The parts of a selection, one of each store that has some of it.

    Raises:
        RequestError: 404; there is none of that name, or it can't be a name.
    """
    name = call.request.path_params["name"]
    none = RequestError(404, f"there is no selection {name[:80]!r}")
    try:
        parts = [read_selection(path, name) for path in call.served.store_paths]
    except ValueError:
        raise none from None
    there = [part for part in parts if part.path.exists()]
    if not there:
        raise none
    return there


async def _remove(call: Call) -> Response:
    for part in await call.service.run(_parts, call):
        part.path.unlink(missing_ok=True)
    return answer({"name": call.request.path_params["name"]})


async def _download(call: Call) -> Response:
    kind, name = call.query["format"], call.request.path_params["name"]
    data = await call.service.run(_exported, call, kind)
    plain = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
    ending = "txt" if kind == "ids" else kind
    headers = {
        "Content-Disposition": f'attachment; filename="{plain}.{ending}"',
        "Cache-Control": "no-store",
    }
    return Response(data, headers=headers, media_type=_MEDIA[kind])


def _exported(call: Call, kind: str) -> bytes:
    """A selection as a file; with whole ids, which commands take, only if paths are shown."""
    names = [name for part in _parts(call) for name in part.ids()]
    keys = [call.served.keys.key(name) for name in names]
    shown = names if call.service.settings.show_paths else keys
    if kind == "ids":
        return "".join(f"{valid_text(name)}\n" for name in shown).encode()
    rows = call.served.rows_of(names).tolist()
    labels = [(call.served.label(row) or "") if row >= 0 else "" for row in rows]
    file = io.BytesIO()
    columns = (Column("id", "string"), Column("label", "string"), Column("row", "int64"))
    with open_table(f".{kind}", file, columns) as table:
        table.write((shown, labels, rows))
    return file.getvalue()


_SELECTION = table(name=TEXT, size=INTEGER, created=NUMBER)
ENDPOINTS = (
    Endpoint(
        "GET",
        "/v1/selections",
        _list,
        "The named selections.",
        response=table(selections=list_of(_SELECTION)),
    ),
    Endpoint(
        "POST",
        "/v1/selections",
        _add,
        "Name a selection, given by ids, rows or filters.",
        body={JSON: _NEW},
        response=_SELECTION,
        is_write=True,
        statuses={201: "It is written."},
    ),
    Endpoint(
        "DELETE",
        "/v1/selections/{name}",
        _remove,
        "Remove a selection; images stay.",
        response=table(name=TEXT),
        path_parameters=_NAME,
        is_write=True,
        statuses=_NONE,
    ),
    Endpoint(
        "GET",
        "/v1/selections/{name}",
        _download,
        "A selection as a file.",
        path_parameters=_NAME,
        parameters=(
            Parameter("format", "string", "ids, csv or parquet.", "ids", choices=tuple(_MEDIA)),
        ),
        media_type="application/octet-stream",
        statuses=_NONE,
    ),
)
