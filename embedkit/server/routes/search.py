"""Search, embeddings, and the check of an image for known copies."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from embedkit.dedup.groups.explain import edits_of
from embedkit.server.call import answer
from embedkit.server.endpoint import Endpoint, Parameter
from embedkit.server.failure import RequestError
from embedkit.server.routes.filters import FILTER, check_filters
from embedkit.server.routes.schemas import (
    BOOLEAN,
    INTEGER,
    ITEM,
    NUMBER,
    TEXT,
    list_of,
    or_null,
    table,
)
from embedkit.server.searching import (
    MOST_RESULTS,
    Found,
    SearchOptions,
    command_of,
    find,
    query_of_class,
    query_of_image,
    query_of_row,
    query_of_vectors,
)
from embedkit.server.uploads import BINARY, FORM, FORM_IMAGE, IMAGE, JSON, image_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.responses import Response

    from embedkit.dedup.check import Match
    from embedkit.server.call import Call
    from embedkit.server.query_cache import SearchQuery
    from embedkit.store import RowBlock

__all__ = ["ENDPOINTS"]

_BYTES = {"type": "string", "format": "binary"}
_IMAGE_BODY = {IMAGE: _BYTES, BINARY: _BYTES, FORM: FORM_IMAGE}
_QUERY = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "maxLength": 100},
        "class": {"type": "string", "maxLength": 1000},
        "vectors": {
            "type": "array",
            "minItems": 1,
            "maxItems": 256,
            "items": {"type": "array", "items": {"type": "number"}},
        },
        "query_token": {"type": "string", "maxLength": 100},
    },
    "additionalProperties": False,
    "minProperties": 1,
    "maxProperties": 1,
}
_PARAMETERS = (
    Parameter("k", "integer", "Results.", 50, 1, MOST_RESULTS),
    Parameter("offset", "integer", "Results to leave out at the beginning.", 0, 0, MOST_RESULTS),
    Parameter("min_score", "number", "The least score; higher is closer."),
    Parameter("exclude_self", "boolean", "Leave out the query and images of its bytes.", False),
    FILTER,
)
_STATUSES = {422: "The image can't be decoded.", 429: "Too many requests.", 503: "Too busy."}


async def _search(call: Call) -> Response:
    start = time.perf_counter()
    options = _options(call)
    query, embedded = await _query(call)
    middle = time.perf_counter()
    found = await call.service.run(find, call.served, query.batch, options)
    end = time.perf_counter()
    call.service.metrics.stage("search").observe(end - middle)
    token = call.service.queries.add(query)
    show_paths = call.service.settings.show_paths
    about = {
        "query_token": token,
        "command": command_of(call.served, query, options, show_paths=show_paths),
        "milliseconds": {
            "embed": 1000 * embedded,
            "search": 1000 * (end - middle),
            "total": 1000 * (end - start),
        },
    }
    return await call.respond(lambda: {**_shown(call, found), **about})


def _options(call: Call) -> SearchOptions:
    names = ("k", "offset", "min_score", "exclude_self")
    values = {name: call.query[name] for name in names}
    options = SearchOptions(**values, filters=check_filters(call, call.query["filter"]))
    if options.depth > MOST_RESULTS:
        raise RequestError(400, f"k and offset together go to {MOST_RESULTS:,} at most")
    return options


async def _query(call: Call) -> tuple[SearchQuery, float]:
    """The query of the request's body, and the seconds that embedding it took."""
    if call.body is None:
        start = time.perf_counter()
        row = await embed_upload(call)
        return query_of_image(row), time.perf_counter() - start
    ((kind, value),) = call.body.items()
    run = call.service.run
    if kind == "id":
        return await run(query_of_row, call.served, call.row(value)), 0.0
    if kind == "class":
        return await run(query_of_class, call.served, value), 0.0
    if kind == "vectors":
        return await run(query_of_vectors, call.served, value), 0.0
    query = call.service.queries.get(value)
    if query.batch.vectors.shape[1] != call.served.index.dim:
        raise RequestError(400, "this query was of another index: send the image again")
    return query, 0.0


async def embed_upload(call: Call) -> RowBlock:
    """Embeds the image that a request carries: a row with all facts of the image."""
    data = await image_of(call.request)
    return await asyncio.wrap_future(call.lease.queue.submit(data))


def _shown(call: Call, found: list[Found]) -> dict[str, Any]:
    """The results of a query, or those of each one of several."""
    shown: list[dict[str, Any]] = [
        {
            "results": [
                {"item": item, "score": score}
                for item, score in zip(call.items(one.rows), one.scores, strict=True)
            ],
            "total": one.total,
        }
        for one in found
    ]
    return shown[0] if len(shown) == 1 else {"queries": shown}


async def _embed(call: Call) -> Response:
    row = await embed_upload(call)
    vectors = row.embeddings.astype("float32")
    return answer({"embeddings": vectors.tolist(), "dim": vectors.shape[1]})


async def _check(call: Call) -> Response:
    data = await image_of(call.request)
    row = await asyncio.wrap_future(call.lease.queue.submit(data))
    matches = await call.service.run_slowly(call.lease.copies.find, data, row)
    return await call.respond(_shown_matches, call, matches)


def _shown_matches(call: Call, matches: Sequence[Match]) -> dict[str, Any]:
    rows = call.served.rows_of([match.id for match in matches]).tolist()
    return {
        "matches": [
            {
                "item": item,
                "score": match.score,
                "cosine": match.cosine,
                "edit": "same bytes" if match.exact else ", ".join(edits_of(match.how)) or None,
                "copy": match.exact or match.verified is True,
            }
            for match, item in zip(matches, call.items(rows), strict=True)
        ]
    }


_RESULTS = table(results=list_of(table(item=ITEM, score=NUMBER)), total=INTEGER)
_ABOUT = table(
    query_token=TEXT,
    command=TEXT,
    milliseconds=table(embed=NUMBER, search=NUMBER, total=NUMBER),
)
_FOUND = {
    "type": "object",
    "properties": {
        **_RESULTS["properties"],
        **_ABOUT["properties"],
        "queries": list_of(_RESULTS),  # in place of results and total
    },
    "required": _ABOUT["required"],
}
_MATCHES = table(
    matches=list_of(table(item=ITEM, score=NUMBER, cosine=NUMBER, edit=or_null(TEXT), copy=BOOLEAN))
)
ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/search",
        _search,
        "Find the most similar images.",
        parameters=_PARAMETERS,
        body={JSON: _QUERY, **_IMAGE_BODY},
        response=_FOUND,
        is_costly=True,
        statuses={**_STATUSES, 404: "No such image, label or query."},
    ),
    Endpoint(
        "POST",
        "/v1/embed",
        _embed,
        "Embed an image.",
        body=_IMAGE_BODY,
        is_costly=True,
        response=table(embeddings=list_of(list_of(NUMBER)), dim=INTEGER),
        statuses=_STATUSES,
    ),
    Endpoint(
        "POST",
        "/v1/duplicates/check",
        _check,
        "Find known images that an image is a copy of.",
        body=_IMAGE_BODY,
        response=_MATCHES,
        is_costly=True,
        statuses=_STATUSES,
    ),
)
