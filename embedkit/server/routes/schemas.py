"""The schemas of the answers, for the API's document; tests hold the answers against them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedkit.server.schema import Schema

__all__ = [
    "BOOLEAN",
    "GROUP",
    "INTEGER",
    "ITEM",
    "NUMBER",
    "REVIEW",
    "TEXT",
    "list_of",
    "or_null",
    "page_of",
    "table",
]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}


def table(**properties: Schema) -> Schema:
    """An object that has all of these properties."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def list_of(one: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": one}


def or_null(one: Schema) -> Schema:
    """What may be null."""
    return {**one, "type": [one["type"], "null"]}


ITEM = table(
    id=TEXT, name=TEXT, width=INTEGER, height=INTEGER, label=or_null(TEXT), has_image=BOOLEAN
)


def page_of(**properties: Schema) -> Schema:
    """A part of a list of images, each with these properties."""
    one = table(item=ITEM, **properties) if properties else ITEM
    return table(total=INTEGER, items=list_of(one))


_COUNTED = list_of(table(value=TEXT, count=INTEGER))
_MEMBER = table(
    item=ITEM,
    keep=BOOLEAN,
    score=or_null(NUMBER),
    edit=or_null(TEXT),
    reason=TEXT,
    bytes=INTEGER,
)
GROUP = table(
    id=TEXT,
    state={"type": "string", "enum": ["pending", "accepted", "rejected"]},
    score=or_null(NUMBER),
    keeper=TEXT,
    members=list_of(_MEMBER),
)
_PROPERTIES: dict[str, Any] = {
    "groups": INTEGER,
    "decided": INTEGER,
    "removed_images": INTEGER,
    "kinds": _COUNTED,
    "folders": _COUNTED,
    "can_undo": BOOLEAN,
}
REVIEW = table(**_PROPERTIES)
