"""The map, clusters, quality lists, outliers and label doubts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.responses import Response

from embedkit.server.call import answer
from embedkit.server.columns import codes_of
from embedkit.server.endpoint import Endpoint, Parameter
from embedkit.server.failure import RequestError
from embedkit.server.routes.items import PAGE
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
from embedkit.tabular import valid_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.analysis.outliers import Outlier
    from embedkit.server.call import Call

__all__ = ["ENDPOINTS"]

_MOST_ROWS = 500
_PROBLEMS = {
    "dark": "Dark",
    "bright": "Bright",
    "blurry": "Blurry",
    "low_information": "Little to see",
    "gray": "Gray among colour images",
    "odd_size": "Odd size",
    "odd_aspect": "Odd shape",
    "exact_duplicate": "Same bytes as another",
}
_WAIT = {202: "It is being computed; ask again after Retry-After seconds.", 404: "There is none."}


async def _map(call: Call) -> Response:
    points = call.lease.explorer.map()
    return answer({"n": len(points), "columns": list(call.served.column_names)})


async def _points(call: Call) -> Response:
    points = call.lease.explorer.map()
    return Response(
        np.ascontiguousarray(points, "<f4").tobytes(),
        headers={"Cache-Control": "no-store"},
        media_type="application/octet-stream",
    )


async def _map_ids(call: Call) -> Response:
    texts = [text for text in call.query["rows"].split(",") if text]
    if not all(text.isascii() and text.isdigit() and len(text) < 12 for text in texts):
        raise RequestError(400, "rows are numbers with commas between them")
    rows = [int(text) for text in texts]
    if len(rows) > _MOST_ROWS or any(row >= len(call.served) for row in rows):
        raise RequestError(400, f"rows: at most {_MOST_ROWS}, each below the number of images")
    return answer({"items": await call.service.run(call.items, rows)})


async def _map_column(call: Call) -> Response:
    name = call.query["name"]
    if name not in call.served.column_names:
        raise RequestError(404, f"there is no column {name[:80]!r}")
    return await call.respond(codes_of, call.served, name)


async def _clusters(call: Call) -> Response:
    return await call.respond(_listed_clusters, call)


def _listed_clusters(call: Call) -> dict[str, Any]:
    served, found = call.served, call.lease.explorer.clusters
    numbers, names = served.labels
    column = np.asarray(served.column("cluster"))
    return {
        "clusters": [
            {
                "cluster": number,
                "size": size,
                "name": _commonest(numbers[served.live & (column == number)], names),
                "examples": call.items(rows),
            }
            for number, size, rows in found
        ]
    }


def _commonest(numbers: Any, names: Sequence[str]) -> str:
    """The most frequent label; empty if there is none."""
    known = numbers[numbers >= 0]
    return valid_text(names[int(np.bincount(known).argmax())]) if len(known) else ""


async def _quality(call: Call) -> Response:
    report = call.lease.explorer.quality()
    counts = report.counts
    problems = [
        {
            "name": name,
            "title": title,
            "count": counts[name],
            "threshold": getattr(report.thresholds, name, None),
        }
        for name, title in _PROBLEMS.items()
    ]
    return answer({"problems": problems})


async def _problem(call: Call) -> Response:
    name = call.request.path_params["name"]
    if name not in _PROBLEMS:
        raise RequestError(404, f"there is no list {name[:40]!r}")
    report = call.lease.explorer.quality()
    found = report.of_kind(name)
    some = found[call.query["offset"] : call.query["offset"] + call.query["limit"]]
    items = await call.service.run(call.items, [one.row for one in some])
    entries = [{"item": item, "value": one.value} for item, one in zip(items, some, strict=True)]
    return answer({"total": len(found), "items": entries})


async def _outliers(call: Call) -> Response:
    found = call.lease.explorer.outliers().off_topic
    reason = "{:.1f} robust standard deviations farther from its neighbors than usual"
    return await _reasons(call, found, lambda one: reason.format(one.score))


async def _doubts(call: Call) -> Response:
    found = call.lease.explorer.doubts()
    return await _reasons(
        call,
        found,
        lambda one: f"labelled {one.label}, but its neighbors are {one.suggested}",
    )


async def _reasons(call: Call, found: Sequence[Outlier], reason: Any) -> Response:
    some = found[call.query["offset"] : call.query["offset"] + call.query["limit"]]
    items = await call.service.run(call.items, [one.row for one in some])
    entries = [
        {"item": item, "value": one.score, "reason": valid_text(reason(one))}
        for item, one in zip(items, some, strict=True)
    ]
    return answer({"total": len(found), "items": entries})


_PROBLEM = table(name=TEXT, title=TEXT, count=INTEGER, threshold=or_null(NUMBER))
_CLUSTER = table(cluster=INTEGER, size=INTEGER, name=TEXT, examples=list_of(ITEM))
_REASONS = page_of(value=NUMBER, reason=TEXT)
_COLUMN = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "enum": ["number", "category"]},
        "values": list_of(or_null(NUMBER)),
        "categories": list_of(TEXT),
        "codes": list_of(INTEGER),
    },
    "required": ["kind"],
}
ENDPOINTS = (
    Endpoint(
        "GET",
        "/v1/map",
        _map,
        "The map: images and columns.",
        response=table(n=INTEGER, columns=list_of(TEXT)),
        statuses=_WAIT,
    ),
    Endpoint(
        "GET",
        "/v1/map/points",
        _points,
        "Where each image lies: x and y as little-endian float32, row by row.",
        media_type="application/octet-stream",
        statuses=_WAIT,
    ),
    Endpoint(
        "GET",
        "/v1/map/ids",
        _map_ids,
        "The images of some rows.",
        parameters=(
            Parameter("rows", "string", "Row numbers, with commas between.", is_required=True),
        ),
        response=table(items=list_of(ITEM)),
    ),
    Endpoint(
        "GET",
        "/v1/map/column",
        _map_column,
        "A column, row by row.",
        parameters=(Parameter("name", "string", "Its name.", is_required=True),),
        response=_COLUMN,
        statuses={404: "No such column."},
    ),
    Endpoint(
        "GET",
        "/v1/clusters",
        _clusters,
        "The clusters.",
        response=table(clusters=list_of(_CLUSTER)),
        statuses={404: "There are none."},
    ),
    Endpoint(
        "GET",
        "/v1/quality",
        _quality,
        "Problems of quality and counts.",
        response=table(problems=list_of(_PROBLEM)),
        statuses=_WAIT,
    ),
    Endpoint(
        "GET",
        "/v1/quality/{name}",
        _problem,
        "The images with a problem, the worst first.",
        parameters=PAGE,
        path_parameters={"name": "The problem."},
        response=page_of(value=NUMBER),
        statuses=_WAIT,
    ),
    Endpoint(
        "GET",
        "/v1/outliers",
        _outliers,
        "Images far from all others.",
        parameters=PAGE,
        response=_REASONS,
        statuses=_WAIT,
    ),
    Endpoint(
        "GET",
        "/v1/labels/doubts",
        _doubts,
        "Labels that the neighbors contradict.",
        parameters=PAGE,
        response=_REASONS,
        statuses=_WAIT,
    ),
)
