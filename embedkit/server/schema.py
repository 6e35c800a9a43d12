"""Checks JSON values against the part of JSON Schema that the API's document uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedkit.server.failure import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Schema", "check_value"]

Schema = dict[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def check_value(schema: Mapping[str, Any], value: Any, where: str = "the body") -> None:
    """Refuses a value that a schema doesn't allow.

    Args:
        schema: ``type``, ``enum``, ``properties``, ``required``, ``additionalProperties: false``,
            ``items``, ``minItems``, ``maxItems``, ``minLength``, ``maxLength``, ``minimum``,
            ``maximum``, ``minProperties`` and ``maxProperties``.
        value: As JSON gave it.
        where: What it is, for the message.

    Raises:
        RequestError: 400; the message says what is wrong.
    """
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is_of(kind, value) for kind in kinds):
        raise RequestError(400, f"{where} must be of type {' or '.join(kinds)}")
    if "enum" in schema and value not in schema["enum"]:
        raise RequestError(400, f"{where} must be one of {', '.join(map(str, schema['enum']))}")
    if isinstance(value, dict):
        _check_object(schema, value, where)
    elif isinstance(value, list):
        _check_size(schema, len(value), where, "Items", "entries")
        for number, one in enumerate(value):
            check_value(schema.get("items", {}), one, f"{where}[{number}]")
    elif isinstance(value, str):
        _check_size(schema, len(value), where, "Length", "characters")
    elif isinstance(value, int | float) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        raise RequestError(400, f"{where} is out of its range")


def _is_of(kind: str, value: Any) -> bool:
    if isinstance(value, bool):  # which Python takes for a number
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _check_object(schema: Mapping[str, Any], value: dict[str, Any], where: str) -> None:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            raise RequestError(400, f"{where} needs {name!r}")
    if schema.get("additionalProperties") is False:
        for name in value:
            if name not in properties:
                known = ", ".join(properties)
                raise RequestError(400, f"{where} has {name[:40]!r}, which isn't one of {known}")
    _check_size(schema, len(value), where, "Properties", "entries")
    for name, one in value.items():
        check_value(properties.get(name, {}), one, name)


def _check_size(schema: Mapping[str, Any], size: int, where: str, suffix: str, unit: str) -> None:
    if size < schema.get(f"min{suffix}", 0):
        raise RequestError(400, f"{where} needs at least {schema[f'min{suffix}']} {unit}")
    if size > schema.get(f"max{suffix}", size):
        raise RequestError(400, f"{where} takes at most {schema[f'max{suffix}']:,} {unit}")
