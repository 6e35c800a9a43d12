"""Reads what a request carries: JSON, or an image by itself or in a form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from embedkit.server.failure import RequestError
from embedkit.server.schema import check_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from embedkit.server.schema import Schema

__all__ = ["BINARY", "FORM", "FORM_IMAGE", "IMAGE", "JSON", "image_of", "json_of", "media_type"]

JSON, FORM, IMAGE, BINARY = (
    "application/json", "multipart/form-data", "image/*", "application/octet-stream",
)  # fmt: skip
_FIELD = "image"
FORM_IMAGE: Schema = {
    "type": "object",
    "properties": {_FIELD: {"type": "string", "format": "binary"}},
    "required": [_FIELD],
}
"""The schema of a form with an image."""


def media_type(request: Request) -> str:
    """The media type of the body, one of those above; empty for another one."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given.startswith("image/"):
        return IMAGE
    return given if given in {JSON, FORM, BINARY} else ""


async def json_of(request: Request, schema: Mapping[str, Any]) -> Any:
    """The JSON body.

    Raises:
        RequestError: 400; it isn't JSON, or not what the schema allows.
    """
    try:
        value = json.loads(await request.body(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise RequestError(
            400, f"the body can't be read as JSON: {' '.join(str(exc).split())[:100]}"
        ) from exc
    check_value(schema, value)
    return value


async def image_of(request: Request) -> bytes:
    """The image that the body is, or that stands in the field ``image`` of a form.

    Raises:
        RequestError: 400; there is none.
    """
    data = await _form_image(request) if media_type(request) == FORM else await request.body()
    if not data:
        raise RequestError(400, "the image is empty (0 bytes)")
    return data


async def _form_image(request: Request) -> bytes:
    try:
        form = await request.form(max_files=1, max_fields=8)
    except HTTPException as exc:
        raise RequestError(400, f"the form can't be read: {exc.detail}") from exc
    try:
        file = form.get(_FIELD)
        if not isinstance(file, UploadFile):
            raise RequestError(400, f"the form has no file in its field {_FIELD!r}")
        return await file.read()
    finally:
        await form.close()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
