"""Store format 1: names, attributes and row blocks. docs/formats.md describes the file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedkit.errors import StoreFormatError
from embedkit.sources.id_lookup import with_prefix_of
from embedkit.types import MISSING_INTEGER
from embedkit.utils.working_directory import working_directory

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "BLOCK_ROWS",
    "COLUMN_SHAPES",
    "DTYPES",
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "IMAGE_DTYPES",
    "OPTIONAL_DTYPES",
    "SHARD_ROWS",
    "USUAL_COLUMNS",
    "Purpose",
    "RowBlock",
    "StoreCounts",
    "StoreMeta",
    "in_blocks",
    "ordered_columns",
    "possible_folders",
]

FORMAT_NAME = "embedkit-store"
FORMAT_VERSION = 1
BLOCK_ROWS = 1024  # rows under one checksum
SHARD_ROWS = 16384  # images per shard; 64 MiB of float16 rows of 2048

IMAGE_DTYPES: dict[str, np.dtype[Any]] = {
    "width": np.dtype("<i4"),
    "height": np.dtype("<i4"),
    "nbytes": np.dtype("<i8"),
    "format": np.dtype(object),
    "content_hash": np.dtype("u1"),
    "phash": np.dtype("<u8"),
}
"""The datasets of ``/images``."""

OPTIONAL_DTYPES: dict[str, np.dtype[Any]] = {
    "mtime": np.dtype("<i8"),
    "frames": np.dtype("<i4"),
    **dict.fromkeys(
        ("luminance", "luminance_std", "clipped_dark", "clipped_bright", "entropy", "sharpness",
         "colorfulness", "gray"),
        np.dtype("<f4"),
    ),
    "alpha": np.dtype("i1"),
    "bits": np.dtype("i1"),
    "captured": np.dtype("<i8"),
    "camera": np.dtype(object),
    "etag": np.dtype(object),
    "thumbnail": np.dtype("u1"),
}  # fmt: skip
"""Datasets of ``/images`` that older stores lack; where a value isn't known, -1, of floating-point
numbers NaN, of texts nothing, of thumbnails zeros."""

COLUMN_SHAPES: dict[str, tuple[int, ...]] = {"content_hash": (32,), "thumbnail": (32, 32)}
"""The shape of one value of a dataset of ``/images``; of those that aren't named it is ``()``."""

_WRITTEN_IF_KNOWN = ("etag", "thumbnail")

USUAL_COLUMNS = tuple(
    name for name in (*IMAGE_DTYPES, *OPTIONAL_DTYPES) if name not in _WRITTEN_IF_KNOWN
)
"""The datasets of ``/images`` that a new store always has; ``etag`` and ``thumbnail`` it has only
where one is known."""

DTYPES = ("float16", "float32")

# What the attributes are when they are read from JSON or HDF5, by the fields' types.
_KINDS: dict[str, type] = {
    "str": str,
    "int": int,
    "bool": bool,
    "Mapping[str, Any]": dict,
    "Sequence[str]": list,
}

Purpose = Literal["identical", "updated", "combine", "merge", "compare"]
"""What two stores are used for together: ``identical`` (one is the other), ``updated`` (one is a
shard that the other kept when it was updated), ``combine`` (their rows form one table), ``merge``
(their rows go into one file), ``compare`` (the rows of one are scored against those of the other,
by an index or a probe)."""

_OF_THE_RUN = (
    "source", "roots", "plan_hash", "embedkit_version", "labels_from", "same_rows_as", "listing",
    "generation", "part", "omitted_columns",
)  # fmt: skip
_PROVENANCE = (*_OF_THE_RUN, "weights", "engine")
_LEFT_OUT_IF_EMPTY = (
    "listing",
    "generation",
    "part",
    "omitted_columns",
)  # so that the bytes are those of older versions
_LIMITS = ("decode.max_pixels", "decode.max_bytes")  # which images were refused

# Settings that may differ between two stores, by purpose; those of _MUST_MATCH may not.
_MAY_DIFFER: dict[Purpose, tuple[str, ...]] = {
    "identical": (),
    "updated": (*_OF_THE_RUN, "engine.version", "engine.part", "engine.others"),
    "combine": _PROVENANCE,
    "merge": _PROVENANCE,
    "compare": (*_PROVENANCE, *_LIMITS, "dtype", "head_applies"),
}
_MUST_MATCH: dict[Purpose, tuple[str, ...]] = {"merge": ("engine.precision", "engine.calibration")}


@dataclass(frozen=True)
class StoreMeta:
    """Metadata of a store: how its embeddings were computed.

    Attributes:
        backbone: The backbone's name, ``resnet50_swsl``.
        weights_fingerprint: SHA-256 (hex) over the weights' tensors.
        weights: Where the weights came from, ``url:…``, ``file:…``, ``random:0``.
        licence: Licence of the weights.
        preprocessing: ``Preprocessing.to_config()``.
        pooling: ``{"pooling", "gem_p", "layers", "flip", …}``.
        feature_dim: D.
        dtype: ``float16`` or ``float32``.
        normalized: Whether the rows have unit L2 norm.
        decode: The decoding policy: limits, background, which decoder.
        engine: The engine that ran the backbone: name, version, device, precision, batch size.
        source: The sources as they were given.
        plan_hash: SHA-256 (hex) of the plan that was embedded.
        embedkit_version: The version that wrote the store.
        head_applies: Whether the stored head can be applied to the stored rows.
        roots: The folders that relative ids start from, absolute; empty if all ids are absolute
            or URLs, and in older stores. ``/FOLDER/<PREFIX>`` if ids begin with a prefix.
        labels_from: Where the labels came from, if they were put in later; else empty.
        same_rows_as: Fingerprints of the stores that this one was before its labels were put in:
            they had the same ids and embeddings.
        listing: How the source was listed: the settings of labels, columns and ids that weren't
            at their defaults. Empty in older stores.
        generation: How many times the store was updated.
        part: Of a store of one part of a plan: ``number`` and ``of``, and the plan's ``images`` and
            ``shard_rows``. Empty if the store holds all of its plan.
        omitted_columns: Optional columns of ``/images`` that the store is to be without.
    """

    backbone: str
    weights_fingerprint: str
    weights: str
    licence: str
    preprocessing: Mapping[str, Any]
    pooling: Mapping[str, Any]
    feature_dim: int
    dtype: str
    normalized: bool
    decode: Mapping[str, Any]
    engine: Mapping[str, Any]
    source: Sequence[str]
    plan_hash: str
    embedkit_version: str
    head_applies: bool
    roots: Sequence[str] = ()
    labels_from: str = ""
    same_rows_as: Sequence[str] = ()
    listing: Mapping[str, Any] = field(default_factory=dict)
    generation: int = 0
    part: Mapping[str, Any] = field(default_factory=dict)
    omitted_columns: Sequence[str] = ()

    def folders(self, root: str | os.PathLike[str] | None = None) -> tuple[Path, ...]:
        """Where relative ids may start from, the likeliest first; see ``possible_folders``."""
        return possible_folders(self.roots, root)

    def to_config(self) -> dict[str, Any]:
        """A JSON-compatible dictionary; ``from_config`` reads it."""
        config = dataclasses.asdict(self)
        for name in _LEFT_OUT_IF_EMPTY:
            if not config[name]:
                del config[name]
        return json.loads(json.dumps(config))  # type: ignore[no-any-return]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> StoreMeta:
        """Reads what ``to_config`` wrote; unknown keys are left out.

        Raises:
            StoreFormatError: A key is missing, or its value isn't what it should be.
        """
        fields = dataclasses.fields(cls)
        optional = {f.name for f in fields if not _is_required(f)}
        names = {f.name for f in fields} - (optional - {*config})
        kinds = {f.name: _KINDS[str(f.type)] for f in fields if f.name in names}
        missing = [name for name in kinds if name not in config]
        if missing:
            raise StoreFormatError(f"store attributes missing: {', '.join(missing)}")
        for name, kind in kinds.items():
            if type(config[name]) is not kind:
                raise StoreFormatError(f"store attribute {name} is no {kind.__name__}")
        meta = cls(**{name: config[name] for name in kinds})
        if meta.dtype not in DTYPES or meta.feature_dim < 1:
            raise StoreFormatError(f"embeddings of {meta.feature_dim} {meta.dtype}: no such store")
        return meta

    def to_attributes(self) -> dict[str, Any]:
        """HDF5 attributes: plain values stay plain, the others become JSON."""
        optional = {"roots", "labels_from", "same_rows_as"}
        return {
            key: _to_attribute(value)
            for key, value in self.to_config().items()
            if value or key not in optional
        }

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> StoreMeta:
        """Reads what ``to_attributes`` wrote.

        Raises:
            StoreFormatError: An attribute is missing or isn't what it should be.
        """
        try:
            config = {
                f.name: _from_attribute(attributes[f.name], str(f.type))
                for f in dataclasses.fields(cls)
                if f.name in attributes
            }
        except (TypeError, ValueError, RecursionError) as exc:
            raise StoreFormatError(f"a store attribute can't be read: {exc}") from exc
        return cls.from_config(config)

    def differences(
        self,
        other: StoreMeta,
        *,
        purpose: Purpose = "combine",
        unit_norm: bool = False,
        ignore: Iterable[str] | None = None,
    ) -> dict[str, tuple[object, object]]:
        """Settings that differ although the purpose requires them to be equal.

        Args:
            other: The metadata to compare with.
            purpose: What the stores are used for together; see ``Purpose``.
            unit_norm: Whether rows are scaled to unit L2 norm before use, so that ``normalized``
                may differ.
            ignore: Settings that may differ, in place of those of ``purpose``.

        Returns:
            Setting name to ``(self's, other's)``; nested ones are dotted, ``preprocessing.crop``.
        """
        may_differ = {*(_MAY_DIFFER[purpose] if ignore is None else ignore)}
        if unit_norm:
            may_differ.add("normalized")
        must_match = _MUST_MATCH.get(purpose, ())
        found = _differences("", self.to_config(), other.to_config())
        return {
            name: values
            for name, values in found
            if _is_among(name, must_match) or not _is_among(name, may_differ)
        }


def ordered_columns(names: Collection[str]) -> tuple[str, ...]:
    """Datasets of ``/images`` in the order in which they are written and hashed."""
    return tuple(name for name in (*IMAGE_DTYPES, *OPTIONAL_DTYPES) if name in names)


def possible_folders(
    roots: Iterable[str],
    root: str | os.PathLike[str] | None = None,
    near: Iterable[Path] = (),
) -> tuple[Path, ...]:
    """Where relative ids may start from, the likeliest first.

    An image may exist in several of them, such as in a copy of the folder: what only reads images
    takes the first one, what changes files must refuse (``places_of``).

    Args:
        roots: ``StoreMeta.roots``, the folders that the store remembers.
        root: The folder, if the caller knows it; None takes ``roots``, then the working folder.
        near: More folders to look in after these, if ``root`` is None.
    """
    remembered = tuple(map(Path, roots))
    here = working_directory()
    others = (*([] if here is None else [here]), *near) if root is None else (Path(root),)
    moved = [with_prefix_of(one, other) for other in others for one in (*remembered, Path())]
    return tuple(dict.fromkeys((*(remembered if root is None else ()), *moved)))


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return dataclasses.MISSING is field.default and dataclasses.MISSING is field.default_factory


def _is_among(name: str, settings: Collection[str]) -> bool:
    """Whether a dotted name is one of some settings, or nested in one."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in settings for end in range(1, len(parts) + 1))


def _to_attribute(value: object) -> object:
    if not isinstance(value, str):
        return value if isinstance(value, bool | int) else json.dumps(value, sort_keys=True)
    data = value.encode("utf-8", "surrogateescape")  # a path that isn't UTF-8 stays bytes
    return value if data.decode("utf-8", "replace") == value else np.bytes_(data)


def _from_attribute(value: Any, kind: str) -> object:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    return value if kind in {"str", "bool", "int"} else json.loads(value)


def _differences(
    prefix: str, mine: Mapping[str, Any], yours: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[object, object]]]:
    for key in sorted({*mine, *yours}):
        a, b = mine.get(key), yours.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(f"{prefix}{key}.", a, b)
        elif a != b:
            yield prefix + key, (a, b)


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """``found = embedded + failed + skipped``, always.

    Attributes:
        embedded: Rows of the store.
        failed: Images that could not be embedded; each has a row in ``/failures``.
        skipped: Files that aren't images, by name or content.
    """

    embedded: int
    failed: int
    skipped: int

    @property
    def found(self) -> int:
        """Everything that the source listed."""
        return self.embedded + self.failed + self.skipped

    def __add__(self, other: StoreCounts) -> StoreCounts:
        return StoreCounts(
            self.embedded + other.embedded,
            self.failed + other.failed,
            self.skipped + other.skipped,
        )


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Some rows of a store, in memory.

    Attributes:
        embeddings: ``(n, D)``.
        ids: n ids, as the bytes that are stored.
        images: The columns of ``/images`` and ``/annotations``: name to ``(n,)``, or to ``(n,)``
            and a shape of ``COLUMN_SHAPES``.
        labels: n labels, UTF-8, empty where an image has none; or nothing if none has.
    """

    embeddings: NDArray[np.floating]
    ids: Sequence[bytes]
    images: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    labels: Sequence[bytes] = ()

    def __len__(self) -> int:
        return len(self.embeddings)

    def column(self, name: str, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
        """A column; unknown in each row of an optional one or annotation that isn't there.

        Args:
            name: Its name.
            dtype: Of an annotation.
        """
        if name in self.images:
            return self.images[name]
        dtype = OPTIONAL_DTYPES[name] if dtype is None else dtype
        unknown: object = {"O": b"", "f": np.nan, "u": 0}.get(dtype.kind, -1)
        if dtype == np.int64 and name not in OPTIONAL_DTYPES:
            unknown = MISSING_INTEGER
        return np.full((len(self), *COLUMN_SHAPES.get(name, ())), unknown, dtype)

    def rows(self, start: int, stop: int) -> RowBlock:
        """The rows from ``start`` to ``stop``, without a copy of the arrays."""
        return RowBlock(
            self.embeddings[start:stop],
            self.ids[start:stop],
            {name: column[start:stop] for name, column in self.images.items()},
            self.labels[start:stop],
        )

    def where(self, mask: NDArray[np.bool_]) -> RowBlock:
        """The rows for which ``mask``, ``(n,)``, is true."""
        chosen = np.flatnonzero(mask).tolist()
        return RowBlock(
            self.embeddings[mask],
            [self.ids[row] for row in chosen],
            {name: column[mask] for name, column in self.images.items()},
            [self.labels[row] for row in chosen] if self.labels else (),
        )

    @staticmethod
    def concatenate(blocks: Sequence[RowBlock]) -> RowBlock:
        """Joins one block or more."""
        if len(blocks) == 1:
            return blocks[0]
        return RowBlock(
            np.concatenate([block.embeddings for block in blocks]),
            [name for block in blocks for name in block.ids],
            {
                name: np.concatenate([block.column(name, column.dtype) for block in blocks])
                for name, column in {n: c for one in blocks for n, c in one.images.items()}.items()
            },
            _join_labels(blocks),
        )


def _join_labels(blocks: Sequence[RowBlock]) -> list[bytes]:
    if not any(block.labels for block in blocks):
        return []
    return [label for block in blocks for label in block.labels or [b""] * len(block)]


def in_blocks(parts: Iterable[RowBlock], rows: int = BLOCK_ROWS) -> Iterator[RowBlock]:
    """Regroups a stream of row blocks into blocks of exactly ``rows`` (the last may be smaller)."""
    waiting: list[RowBlock] = []
    held = 0
    for part in parts:
        waiting.append(part)
        held += len(part)
        if held < rows:
            continue
        joined = RowBlock.concatenate(waiting)
        whole = held - held % rows
        for start in range(0, whole, rows):
            yield joined.rows(start, start + rows)
        waiting, held = ([joined.rows(whole, held)] if held > whole else []), held - whole
    if held:
        yield RowBlock.concatenate(waiting)
