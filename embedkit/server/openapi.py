"""The OpenAPI document of the service, made of the table of its routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedkit._version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.server.endpoint import Endpoint

__all__ = ["INDEX", "document"]

INDEX = {
    "name": "index",
    "in": "query",
    "required": False,
    "description": "The name of an index; the first one if it isn't given.",
    "schema": {"type": "string"},
}
_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}
_ALWAYS = {
    400: "A parameter or the body is wrong.",
    403: "Another site asks, or X-Embedkit is missing.",
}


def document(endpoints: Sequence[Endpoint], *, needs_token: bool) -> dict[str, Any]:
    """The document, OpenAPI 3.1.

    Args:
        endpoints: All routes.
        needs_token: Whether clients need a token.
    """
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    content: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "embedkit",
            "version": __version__,
            "description": "Search, review and explore collections of images.",
        },
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}},
    }
    if needs_token:
        content["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        content["security"] = [{"token": []}]
    return content


def _operation(one: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": one.summary,
        "operationId": _name(one),
        "parameters": _parameters(one),
        "responses": _responses(one),
    }
    if one.body:
        content = {kind: {"schema": schema} for kind, schema in one.body.items()}
        operation["requestBody"] = {"required": True, "content": content}
    if one.is_public:
        operation["security"] = []
    return operation


def _name(one: Endpoint) -> str:
    words = [part for part in one.path.strip("/").split("/") if not part.startswith("{")]
    suffix = "_one" if "{" in one.path else ""
    return "_".join([one.method.lower(), *words]).replace(".", "_") + suffix


def _parameters(one: Endpoint) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": description,
            "schema": {"type": "string", "minLength": 1},
        }
        for name, description in one.path_parameters.items()
    ]
    found += [
        {
            "name": parameter.name,
            "in": "query",
            "required": parameter.is_required,
            "description": parameter.description,
            "schema": parameter.schema(),
        }
        for parameter in one.parameters
    ]
    if one.needs_index:
        found.append(INDEX)
    if one.is_write:
        found.append(
            {
                "name": "X-Embedkit",
                "in": "header",
                "required": True,
                "description": "Always 1: no other site can send it.",
                "schema": {"type": "string", "enum": ["1"]},
            }
        )
    return found


def _responses(one: Endpoint) -> dict[str, Any]:
    done = "201" if 201 in one.statuses else "200"
    found: dict[str, Any] = {
        done: {
            "description": one.statuses.get(201, "Done."),
            "content": {one.media_type: {"schema": _schema(one)}},
        }
    }
    refusals = {**_ALWAYS, **one.statuses}
    if not one.is_public:
        refusals[401] = "The token is missing or wrong."
        refusals[429] = "Too many requests."
    if one.needs_index:
        refusals.setdefault(404, "No such index.")
    if one.body:
        refusals |= {
            408: "The body came too slowly.",
            413: "The body is too large.",
            415: "The body has another media type.",
        }
    for status, description in sorted(refusals.items()):
        if status != 201:
            found[str(status)] = {
                "description": description,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            }
    return found


def _schema(one: Endpoint) -> dict[str, Any]:
    return one.response if one.media_type == "application/json" else {"type": "string"}
