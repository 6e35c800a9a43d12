"""What is served, whether it is ready, what it counts, and who is signed in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from embedkit._version import __version__
from embedkit.server.call import answer
from embedkit.server.endpoint import Endpoint
from embedkit.server.failure import RequestError
from embedkit.server.routes.schemas import BOOLEAN, INTEGER, TEXT, list_of, or_null, table
from embedkit.server.sessions import COOKIE, LIFETIME
from embedkit.server.uploads import JSON

if TYPE_CHECKING:
    from embedkit.server.call import Call
    from embedkit.server.indexes import Lease

__all__ = ["ENDPOINTS"]

TABS = ("review", "map", "clusters", "quality", "outliers", "labels")


async def _health(call: Call) -> Response:
    del call
    return answer({"status": "alive"})


async def _ready(call: Call) -> Response:
    if not call.service.indexes.is_ready:
        raise RequestError(503, "the backbone is being loaded", {"Retry-After": "1"})
    return answer({"status": "ready"})


async def _metrics(call: Call) -> Response:
    text = call.service.metrics.text()
    return Response(text, headers={"Cache-Control": "no-store"}, media_type="text/plain")


async def _info(call: Call) -> Response:
    service, sessions = call.service, call.service.sessions
    is_in = sessions.allows(call.request)
    tabs = dict.fromkeys(TABS, False)
    if is_in:
        explorer = call.lease.explorer
        tabs = {**tabs, **explorer.tabs, "review": service.review is not None}
    return answer(
        {
            "version": __version__,
            "title": "embedkit",
            "needs_token": sessions.needs_token,
            "signed_in": is_in,
            "indexes": _described(call) if is_in else [],
            "tabs": tabs,
        }
    )


async def _indexes(call: Call) -> Response:
    return answer({"indexes": _described(call)})


def _described(call: Call) -> list[dict[str, Any]]:
    return [_index(call, lease) for lease in call.service.indexes.leases]


def _index(call: Call, lease: Lease) -> dict[str, Any]:
    served, meta = lease.served, lease.served.index.meta
    problem = lease.problem or lease.queue.problem
    return {
        "name": served.name,
        "n_images": int(served.live.sum()),
        "dim": served.index.dim,
        "backbone": meta.backbone,
        "generation": served.generation,
        "problem": None if problem is None else call.service.public(problem),
    }


async def _sign_in(call: Call) -> Response:
    sessions = call.service.sessions
    if sessions.needs_token and not sessions.is_token(call.body["token"]):
        raise RequestError(401, "this isn't the token", {"WWW-Authenticate": "Bearer"})
    response = answer({"signed_in": True})
    if sessions.needs_token:
        response.set_cookie(
            COOKIE, sessions.open(), max_age=LIFETIME, httponly=True, samesite="strict",
            secure=call.request.url.scheme == "https",
        )  # fmt: skip
    return response


async def _sign_out(call: Call) -> Response:
    call.service.sessions.end(call.request.cookies.get(COOKIE, ""))
    response = answer({"signed_in": False})
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


_SIGN_IN = {
    "type": "object",
    "properties": {"token": {"type": "string", "maxLength": 1000}},
    "required": ["token"],
    "additionalProperties": False,
}
_INDEXES = list_of(
    table(
        name=TEXT,
        n_images=INTEGER,
        dim=INTEGER,
        backbone=TEXT,
        generation=INTEGER,
        problem=or_null(TEXT),
    )
)
_TABS = table(**dict.fromkeys(TABS, BOOLEAN))
_INFO = table(
    version=TEXT,
    title=TEXT,
    needs_token=BOOLEAN,
    signed_in=BOOLEAN,
    indexes=_INDEXES,
    tabs=_TABS,
)
_STATUS = table(status=TEXT)
_SIGNED_IN = table(signed_in=BOOLEAN)
ENDPOINTS = (
    Endpoint(
        "GET",
        "/healthz",
        _health,
        "Whether the service runs.",
        response=_STATUS,
        is_public=True,
        needs_index=False,
    ),
    Endpoint(
        "GET",
        "/readyz",
        _ready,
        "Whether the backbones are loaded.",
        response=_STATUS,
        is_public=True,
        needs_index=False,
        statuses={503: "Not yet."},
    ),
    Endpoint(
        "GET",
        "/metrics",
        _metrics,
        "Counters in the format of Prometheus.",
        media_type="text/plain",
        needs_index=False,
    ),
    Endpoint(
        "GET", "/v1/info", _info, "What is served, and to whom.", response=_INFO, is_public=True
    ),
    Endpoint(
        "GET",
        "/v1/indexes",
        _indexes,
        "The indexes.",
        response=table(indexes=_INDEXES),
        needs_index=False,
    ),
    Endpoint(
        "POST",
        "/v1/session",
        _sign_in,
        "Sign in with the token; sets a cookie.",
        body={JSON: _SIGN_IN},
        response=_SIGNED_IN,
        is_public=True,
        is_write=True,
        is_costly=True,
        needs_index=False,
        statuses={401: "Another token.", 429: "Too many requests."},
    ),
    Endpoint(
        "DELETE",
        "/v1/session",
        _sign_out,
        "Sign out.",
        response=_SIGNED_IN,
        is_public=True,
        is_write=True,
        needs_index=False,
    ),
)
