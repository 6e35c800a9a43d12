"""``pairs.parquet`` and ``groups.parquet``: what was found as tables, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embedkit.dedup.groups.grouping import describe_groups, nodes_of
from embedkit.dedup.pairs import NOT_VERIFIED, PAIR_DTYPES, SAME_SCENE, Pairs
from embedkit.dedup.results import FoundImages
from embedkit.tabular import valid_text

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

    from numpy.typing import NDArray

    from embedkit.dedup.groups.grouping import Groups
    from embedkit.dedup.pairs import PairsInfo
    from embedkit.dedup.results import Duplicates

__all__ = ["read_groups", "read_pairs", "write_groups", "write_pairs"]

_NEW = {"frames", "scene"}  # columns that older folders lack
_UNKNOWN_HAMMING = 255
_SIDES = ("store", "against")
_NAMES = pa.dictionary(pa.int32(), pa.string())

_PAIRS = pa.schema(
    [
        pa.field("first", pa.int64(), nullable=False),
        pa.field("second", pa.int64(), nullable=False),
        pa.field("first_id", _NAMES, nullable=False),
        pa.field("second_id", _NAMES, nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("cosine", pa.float32(), nullable=False),
        pa.field("hamming", pa.uint8()),
        pa.field("exact", pa.bool_(), nullable=False),
        pa.field("verified", pa.bool_()),
        pa.field("how", pa.string()),
        pa.field("scene", pa.bool_()),
    ]
)
_GROUPS = pa.schema(
    [
        pa.field("group", pa.int64()),
        pa.field("side", _NAMES, nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("id_bytes", pa.binary()),
        pa.field("label", pa.string()),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("nbytes", pa.int64(), nullable=False),
        pa.field("format", _NAMES, nullable=False),
        pa.field("content_hash", pa.binary(32), nullable=False),
        pa.field("frames", pa.int32()),
        pa.field("score", pa.float32()),
        pa.field("nearest_id", pa.string()),
        pa.field("weakest", pa.float32()),
    ]
)


def write_pairs(file: IO[bytes], found: Duplicates) -> None:
    """Writes ``pairs.parquet``, a row a pair."""
    pairs, ends = found.pairs, nodes_of(found.pairs)[1]
    names = pa.array(list(map(valid_text, found.images.ids)), pa.string())
    ids = [pa.DictionaryArray.from_arrays(ends[:, i].astype(np.int32), names) for i in (0, 1)]
    columns = [
        pairs.first,
        pairs.second,
        *ids,
        pairs.score,
        pairs.cosine,
        pa.array(pairs.hamming, mask=pairs.hamming == _UNKNOWN_HAMMING),
        pairs.exact,
        pa.array(pairs.verified == 1, mask=pairs.verified == NOT_VERIFIED),
        pa.array([json.dumps(dict(how)) if how else None for how in pairs.how], pa.string())
        if pairs.how
        else pa.nulls(len(pairs), pa.string()),
        pa.array(pairs.verified == SAME_SCENE, mask=pairs.verified == NOT_VERIFIED),
    ]
    _write(file, columns, _PAIRS)


def read_pairs(path: Path, info: PairsInfo) -> Pairs:
    """Reads ``pairs.parquet``.

    Raises:
        ValueError: Something in it isn't as it should be.
        OSError: It can't be read.
        pa.ArrowException: It is no Parquet file.
    """
    table = _read(path, _PAIRS, [*PAIR_DTYPES, "how", "scene"])
    verified = table["verified"].cast(pa.int8()).fill_null(NOT_VERIFIED)
    if "scene" in table.column_names:
        verified = pc.if_else(table["scene"].fill_null(False), SAME_SCENE, verified)
    filled = {
        "hamming": table["hamming"].fill_null(_UNKNOWN_HAMMING),
        "verified": verified,
    }
    columns = {
        name: filled.get(name, table[name]).to_numpy().astype(dtype)
        for name, dtype in PAIR_DTYPES.items()
    }
    how = table["how"]
    descriptions = (
        [] if how.null_count == len(how) else [_description(text) for text in how.to_pylist()]
    )
    pairs = Pairs(**columns, info=info, how=descriptions)
    if not (pairs.score >= np.float32(info.threshold)).all() or np.isnan(pairs.cosine).any():
        raise ValueError("a score is below the threshold, or no number")
    return pairs


def _description(text: str | None) -> dict[str, Any]:
    description = json.loads(text) if text else {}
    if not isinstance(description, dict):
        raise ValueError("how is no JSON table")
    return description


def write_groups(file: IO[bytes], found: Duplicates) -> None:
    """Writes ``groups.parquet``, a row for each image that is in a pair, group by group."""
    groups, images = found.groups, found.images
    order = _by_group(groups.group)
    chosen, group = images.take(order), groups.group[order]
    is_alone = group < 0
    raw = [_raw(name) for name in chosen.ids]
    nearest = np.searchsorted(groups.node, groups.nearest[order])
    mine = found.is_of_store()[order]
    columns = [
        pa.array(group, mask=is_alone),
        pa.array([_SIDES[0] if own else _SIDES[1] for own in mine.tolist()], _NAMES),
        found.row()[order],
        pa.array(list(map(valid_text, chosen.ids)), pa.string()),
        pa.array(raw, pa.binary()),
        pa.array([label or None for label in map(valid_text, chosen.labels)], pa.string()),
        chosen.width,
        chosen.height,
        chosen.nbytes,
        pa.array(chosen.formats, _NAMES),
        pa.array([row.tobytes() for row in chosen.content_hash], pa.binary(32)),
        pa.array(chosen.frames, mask=chosen.frames < 0),
        pa.array(groups.score[order], mask=np.isnan(groups.score[order])),
        pa.array(
            [
                None if at < 0 else valid_text(images.ids[near])
                for at, near in zip(groups.nearest[order].tolist(), nearest.tolist(), strict=True)
            ],
            pa.string(),
        ),
        pa.array(np.append(groups.weakest, np.float32(0))[group], mask=is_alone),
    ]
    _write(file, columns, _GROUPS)


def read_groups(path: Path, pairs: Pairs) -> tuple[Groups, FoundImages]:
    """Reads ``groups.parquet``.

    Raises:
        ValueError: Something in it isn't as it should be, or it isn't of these pairs.
        OSError: It can't be read.
        pa.ArrowException: It is no Parquet file.
    """
    table = _read(path, _GROUPS, None)
    side, row = table["side"].cast(pa.string()).to_pylist(), table["row"].to_numpy()
    if not set(side) <= set(_SIDES):
        raise ValueError("a side is neither store nor against")
    node = row + np.array([_SIDES.index(one) for one in side], np.int64) * pairs.info.rows
    order = np.argsort(node, kind="stable")
    if not np.array_equal(node[order], nodes_of(pairs)[0]):
        raise ValueError("its images aren't those of the pairs")
    group = table["group"].fill_null(-1).to_numpy().astype(np.int64)[order]
    _check_groups(group)
    images = FoundImages(
        tuple(map(_id, table["id"].to_pylist(), table["id_bytes"].to_pylist())),
        tuple(label or "" for label in table["label"].to_pylist()),
        tuple(table["format"].cast(pa.string()).to_pylist()),
        table["width"].to_numpy(),
        table["height"].to_numpy(),
        table["nbytes"].to_numpy(),
        np.frombuffer(b"".join(table["content_hash"].to_pylist()), np.uint8).reshape(-1, 32),
        table["frames"].fill_null(-1).to_numpy()
        if "frames" in table.column_names
        else np.full(len(table), -1, np.int32),
    )
    return describe_groups(pairs, group), images.take(order)


def _check_groups(group: NDArray[np.int64]) -> None:
    numbers, first, sizes = np.unique(group[group >= 0], return_index=True, return_counts=True)
    if (group < -1).any() or not np.array_equal(numbers, np.arange(len(numbers))):
        raise ValueError("groups aren't numbered from 0")
    if (sizes < 2).any() or (np.diff(first) < 0).any():
        raise ValueError("a group of one image, or groups that aren't in order")


def _by_group(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group by group, images without one last; inside a group by row."""
    return np.argsort(np.where(group < 0, np.iinfo(np.int64).max, group), kind="stable")


def _write(file: IO[bytes], columns: list[Any], schema: pa.Schema) -> None:
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), file)


def _read(path: Path, schema: pa.Schema, columns: list[str] | None) -> pa.Table:
    with path.open("rb") as file:
        parquet = pq.ParquetFile(file)
        found = {field.name: field.type for field in parquet.schema_arrow}
        expected = {field.name: field.type for field in schema}
        if found != {
            name: expected[name] for name in expected if name not in _NEW or name in found
        }:
            raise ValueError(f"its columns aren't {', '.join(expected)}")
        table = parquet.read(columns)
    for name in table.column_names:
        if not schema.field(name).nullable and table[name].null_count:
            raise ValueError(f"{name} has gaps")
    return table


def _raw(name: str) -> bytes | None:
    """The bytes of a name, where text alone doesn't hold them."""
    raw = name.encode("utf-8", "surrogateescape")
    return None if raw == valid_text(name).encode() else raw


def _id(shown: str, raw: bytes | None) -> str:
    return shown if raw is None else raw.decode("utf-8", "surrogateescape")
