"""Finds the columns of images and labels in an Arrow schema, nested ones too."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from embedkit.errors import SourceError
from embedkit.sources.labels import LABEL_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ImageColumn", "class_names", "find_images", "find_label", "leaf_names"]

_IMAGE_NAMES = (
    *("image", "images", "img", "picture", "photo", "jpg", "jpeg", "png", "webp"),
    *("bytes", "image_bytes", "image_data", "content", "data"),
)
_PATH_NAMES = (
    *("image", "images", "img", "image_path", "img_path", "path", "file_path", "filepath"),
    *("file", "file_name", "filename", "image_url", "img_url", "url"),
)


@dataclass(frozen=True, slots=True)
class ImageColumn:
    """A column that may hold images.

    Attributes:
        name: Its dotted name, such as ``image`` or ``sample.image``.
        kind: Its type, for messages.
        data: The dotted name of its bytes; None where there are only paths.
        path: The dotted name of its paths; None where there are only bytes.
        is_list: Whether a row holds a list of them.
    """

    name: str
    kind: str
    data: str | None
    path: str | None
    is_list: bool = False


def find_images(schema: Any, requested: str | None, where: str) -> ImageColumn:
    """Choose the column of images.

    Args:
        schema: A ``pyarrow.Schema``.
        requested: The column's dotted name, or the name of a column that holds only one of images;
            None takes the only column of bytes, else one with a usual name, else a column of paths
            with a usual name.
        where: The table's name, for errors.

    Raises:
        SourceError: There is no such column, or several may be meant.
    """
    found = [one for field in schema for one in _columns(field.type, field.name)]
    if requested is not None:
        chosen = [one for one in found if one.name == requested]
        chosen = chosen or [one for one in found if one.name.startswith(requested + ".")]
        chosen = [one for one in chosen if one.data] or chosen
        if len(chosen) == 1:
            return chosen[0]
        raise SourceError(
            f"{where}: no column {requested!r} of images; the columns are {_list(schema)} "
            "(image_column=NAME)"
        )
    data = [one for one in found if one.data is not None]
    paths = [one for one in found if one.data is None and _last(one) in _PATH_NAMES]
    chosen = _preferred(data, _IMAGE_NAMES) or (data if len(data) == 1 else [])
    chosen = chosen or ([] if data else _preferred(paths, _PATH_NAMES))
    if chosen:
        return chosen[0]
    reason = "several columns may hold the images" if data else "no column holds images"
    raise SourceError(
        f"{where}: {reason}; the columns are {_list(schema)}; name one with image_column=NAME"
    )


def _last(column: ImageColumn) -> str:
    return column.name.rpartition(".")[2]


def _preferred(columns: list[ImageColumn], names: tuple[str, ...]) -> list[ImageColumn]:
    named = [one for one in columns if _last(one) in names]
    # The outermost first, then by the names' order.
    return sorted(named, key=lambda one: (one.name.count("."), names.index(_last(one))))[:1]


def _list(schema: Any) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _columns(kind: Any, name: str) -> Iterator[ImageColumn]:
    """Yield what may be images in a field of this type."""
    import pyarrow as pa

    if _is_list(kind):
        for one in _columns(kind.value_type, name):
            if not one.is_list:
                yield replace(one, is_list=True, kind=str(kind))
    elif _is_binary(kind):
        yield ImageColumn(name, str(kind), name, None)
    elif _is_text(kind):
        yield ImageColumn(name, str(kind), None, name)
    elif pa.types.is_struct(kind):
        children = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        if "bytes" in children and _is_binary(children["bytes"]):
            has_path = "path" in children and _is_text(children["path"])
            path = f"{name}.path" if has_path else None
            yield ImageColumn(name, str(kind), f"{name}.bytes", path)
            return
        for child, inner in children.items():
            yield from _columns(inner, f"{name}.{child}")


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _plain(kind: Any) -> str:
    """Name a type without its encoding as a dictionary."""
    import pyarrow as pa

    return str(kind.value_type if pa.types.is_dictionary(kind) else kind)


def _is_binary(kind: Any) -> bool:
    name = _plain(kind)
    return name in ("binary", "large_binary", "binary_view") or name.startswith("fixed_size_binary")


def _is_text(kind: Any) -> bool:
    return _plain(kind) in ("string", "large_string", "string_view")


def leaf_names(schema: Any) -> list[str]:
    """Return the dotted names of a schema's leaves, in the order of a Parquet file's columns."""
    return [leaf for field in schema for leaf in _leaves(field.type, field.name)]


def _leaves(kind: Any, name: str) -> Iterator[str]:
    import pyarrow as pa

    kind = getattr(kind, "storage_type", kind)
    if _is_list(kind):
        yield from _leaves(kind.value_type, name)
    elif pa.types.is_map(kind):
        yield from _leaves(kind.key_type, f"{name}.key")
        yield from _leaves(kind.item_type, f"{name}.value")
    elif pa.types.is_struct(kind):
        for i in range(kind.num_fields):
            yield from _leaves(kind.field(i).type, f"{name}.{kind.field(i).name}")
    else:
        yield name


def find_label(schema: Any, requested: str | None, image: ImageColumn, where: str) -> str | None:
    """Choose the column of labels.

    Args:
        schema: A ``pyarrow.Schema``.
        requested: Its dotted name; None takes ``label``.
        image: The column of images, which is no label.
        where: The table's name, for errors.

    Returns:
        Its dotted name; None where there is none.

    Raises:
        SourceError: There is no such column, or it has several fields.
    """
    leaves = leaf_names(schema)
    if requested is None:
        if LABEL_COLUMN not in schema.names or image.name.partition(".")[0] == LABEL_COLUMN:
            return None
        requested = LABEL_COLUMN
    if requested in leaves:
        return requested
    fields = [leaf for leaf in leaves if leaf.startswith(requested + ".")]
    if len(fields) == 1:
        return fields[0]
    if fields:
        reason = f"column {requested!r} has several fields: choose one of {', '.join(fields)}"
    else:
        reason = f"no column {requested!r} for labels; the columns are {', '.join(schema.names)}"
    raise SourceError(f"{where}: {reason} (label_column=NAME)")


def class_names(schema: Any, label: str | None) -> list[str]:
    """Return the names of a Hugging Face ClassLabel; empty where the column is no ClassLabel."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None or label is None:
        return []
    try:
        feature = json.loads(raw)["info"]["features"]
        for part in label.split("."):
            feature = _element(feature[part])
        names = _element(feature)["names"]
    except (ValueError, KeyError, TypeError, IndexError):
        # Not a ClassLabel, or another library's metadata: the numbers stay numbers.
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _element(feature: Any) -> Any:
    """Return what a list of Hugging Face's features holds: ``[x]``, or a dict with ``feature``."""
    while True:
        if isinstance(feature, list) and len(feature) == 1:
            feature = feature[0]
        elif isinstance(feature, dict) and feature.get("_type") in (
            "Sequence",
            "List",
            "LargeList",
        ):
            feature = feature["feature"]
        else:
            return feature
