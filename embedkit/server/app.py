"""The application: the routes of the table behind the guard, and the page."""

from __future__ import annotations

import time
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from embedkit import report
from embedkit.errors import DecodeError, EmbedkitError
from embedkit.server.call import Call, answer
from embedkit.server.failure import RequestError
from embedkit.server.guard import Guard, check_origin, refusal
from embedkit.server.limits import RateLimit
from embedkit.server.openapi import document
from embedkit.server.routes.table import ENDPOINTS
from embedkit.server.uploads import JSON, json_of, media_type

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from embedkit.server.connections import Connections
    from embedkit.server.endpoint import Endpoint
    from embedkit.server.service import Service

    _Handler = Callable[[Request], Awaitable[Response]]

__all__ = ["make_app"]

_STATIC = Path(__file__).with_name("static")
_MAP = Path(report.__file__).with_name("templates") / "map"  # what the page shares with reports


def make_app(service: Service, connections: Connections) -> Guard:
    """The application of a service; it starts and stops the service with itself.

    Args:
        service: What the routes work with.
        connections: Is told when requests begin and end.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    rate = RateLimit(service.settings.rate)
    content = document(ENDPOINTS, needs_token=service.sessions.needs_token)

    async def openapi(request: Request) -> Response:
        _check_access(service, rate, request)
        return answer(content)

    async def page(request: Request) -> Response:
        del request
        return FileResponse(_STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    by_path: dict[str, dict[str, _Handler]] = {}
    for one in ENDPOINTS:
        by_path.setdefault(one.path, {})[one.method] = _handler(service, rate, one)
    routes = [
        Route(path, _by_method(handlers), methods=[*handlers]) for path, handlers in by_path.items()
    ]
    app = Starlette(
        routes=[
            Route("/", page, methods=["GET"]),
            Route("/openapi.json", openapi, methods=["GET"]),
            *routes,
            Mount("/static/map", StaticFiles(directory=_MAP)),
            Mount("/static", StaticFiles(directory=_STATIC, check_dir=False)),
        ],
        exception_handlers={
            RequestError: _refuse, HTTPException: _refuse_http, Exception: _fail,
        },
        lifespan=lifespan,
    )  # fmt: skip
    return Guard(app, service.settings, service.metrics, connections)


def _by_method(handlers: Mapping[str, _Handler]) -> _Handler:
    """What starlette calls for all methods of a path; HEAD is a GET without the body."""

    async def handle(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return handle


def _handler(service: Service, rate: RateLimit, endpoint: Endpoint) -> _Handler:
    """What starlette calls for a route: checks, then the route's own handler."""

    async def handle(request: Request) -> Response:
        start, status = time.perf_counter(), 500
        try:
            response = await _answer_or_refuse(service, rate, endpoint, request)
            status = response.status_code
            return response
        finally:
            seconds = time.perf_counter() - start
            service.metrics.count_request(endpoint.method, endpoint.path, status, seconds)

    return handle


async def _answer_or_refuse(
    service: Service, rate: RateLimit, endpoint: Endpoint, request: Request
) -> Response:
    try:
        return await _answer(service, rate, endpoint, request)
    except RequestError as exc:
        return refusal(exc)
    except DecodeError as exc:
        return refusal(RequestError(422, f"the image can't be used: {exc.reason}"))
    except (EmbedkitError, ValueError) as exc:
        return refusal(RequestError(400, service.public(" ".join(str(exc).split()))))


async def _answer(
    service: Service, rate: RateLimit, endpoint: Endpoint, request: Request
) -> Response:
    check_origin(request.method, request.headers, is_write=endpoint.is_write)
    if endpoint.is_costly:
        rate.take(_address(request))
    if not endpoint.is_public:
        _check_access(service, rate, request)
    query = endpoint.query(request.query_params)
    kind = media_type(request)
    if endpoint.body and kind not in endpoint.body:
        raise RequestError(415, f"the body must be one of: {', '.join(endpoint.body)}")
    is_json = bool(endpoint.body) and kind == JSON
    body: Any = await json_of(request, endpoint.body[JSON]) if is_json else None
    with ExitStack() as stack:
        lease = None
        if endpoint.needs_index:
            name = request.query_params.get("index")
            lease = stack.enter_context(service.indexes.use(name))
        return await endpoint.handler(Call(service, request, query, body, lease))


def _check_access(service: Service, rate: RateLimit, request: Request) -> None:
    if not service.sessions.allows(request):
        rate.take(_address(request))  # so that the token can't be guessed quickly
        raise RequestError(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _refuse(request: Request, exc: Exception) -> Response:
    del request
    assert isinstance(exc, RequestError)
    return refusal(exc)


def _refuse_http(request: Request, exc: Exception) -> Response:
    del request
    assert isinstance(exc, HTTPException)
    words = {404: "there is nothing at this address", 405: "this address takes another method"}
    message = words.get(exc.status_code, exc.detail)
    return refusal(RequestError(exc.status_code, message, exc.headers))


def _fail(request: Request, exc: Exception) -> Response:
    del request, exc  # uvicorn writes it to the log
    return answer({"error": "an error that embedkit doesn't expect; the server's log has it"}, 500)
