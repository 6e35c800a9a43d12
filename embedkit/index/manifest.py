"""The manifest of an index: ``manifest.json``, with its own hash."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.errors import IndexCorruptError, IndexFileError, StoreFormatError
from embedkit.index.faiss_types import SearchParams
from embedkit.index.spec import IndexSpec, Metric
from embedkit.store.detect import wrong_kind
from embedkit.store.format import StoreMeta
from embedkit.store.object_cache import find
from embedkit.utils.manifest import ManifestFormat
from embedkit.utils.typed import check_fields

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

__all__ = [
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "MANIFEST",
    "FileEntry",
    "IndexManifest",
    "OperatingPoint",
    "StoreEntry",
]

MANIFEST = "manifest.json"
FORMAT_NAME = "embedkit-index"
FORMAT_VERSION = 2
_NAME = re.compile(r"\w[\w.-]*", re.ASCII)
_FORMAT = ManifestFormat(
    FORMAT_NAME,
    FORMAT_VERSION,
    "an embedkit index",
    "build the index again",
    missing=IndexFileError,
    other=IndexFileError,
    damaged=IndexCorruptError,
    older=(1,),
)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of an index.

    Attributes:
        name: File name inside the folder.
        sha256: SHA-256 (hex) of its content.
        nbytes: Its size; None where format 1 doesn't say.
    """

    name: str
    sha256: str
    nbytes: int | None = None


@dataclass(frozen=True, slots=True)
class StoreEntry:
    """A store that an index was built from.

    Attributes:
        path: Where it was, absolute.
        relative: Where it was from the folder that holds the index.
        fingerprint: ``EmbeddingStore.fingerprint``.
        rows: N.
    """

    path: str
    relative: str
    fingerprint: str
    rows: int


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Measured time and recall of one search setting.

    Attributes:
        params: The setting.
        recall_at_1: Share of queries whose nearest image is found as such.
        recall_at_10: Share of the ten nearest that are among the ten found.
        ms: Milliseconds for one query alone, the median.
        batch_ms: Milliseconds per query in a batch of many; None if not measured.
    """

    params: SearchParams
    recall_at_1: float
    recall_at_10: float
    ms: float
    batch_ms: float | None = None

    @property
    def cost(self) -> float:
        """What settings are compared by: the steadier of the two times, if it was measured."""
        return self.ms if self.batch_ms is None else self.batch_ms

    def to_config(self) -> dict[str, Any]:
        """A JSON-compatible dictionary."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> OperatingPoint:
        """Reads what ``to_config`` wrote."""
        return cls(**{**config, "params": SearchParams.from_config(config["params"])})


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """The settings and measurements of an index.

    Attributes:
        factory: The faiss factory string.
        metric: ``cosine``, ``ip`` or ``l2``.
        dim: D, the length of queries.
        count: Rows that were indexed, those removed since among them.
        meta: ``StoreMeta.to_config()`` of the (first) store.
        files: Role (``index``, ``ids``, …) to file.
        embedkit_version: The version that built the index.
        spec: The requested settings.
        stores: The stores it was built from; empty for format 1.
        rerank: Whether candidates are reranked with the stores' rows.
        on_disk: Whether the inverted lists stay on disk.
        params: The current search setting.
        frontier: The measured settings, fastest first.
        queries: How many held-out queries it was measured with.
        bytes_per_vector: Memory of a search per row, without the ids.
        removed: Rows that are removed but not yet compacted away.
        generation: How often the index was changed.
    """

    factory: str
    metric: Metric
    dim: int
    count: int
    meta: dict[str, Any]
    files: dict[str, FileEntry]
    embedkit_version: str
    spec: IndexSpec = field(default_factory=IndexSpec)
    stores: tuple[StoreEntry, ...] = ()
    rerank: bool = False
    on_disk: bool = False
    params: SearchParams = field(default_factory=SearchParams)
    frontier: tuple[OperatingPoint, ...] = ()
    queries: int = 0
    bytes_per_vector: float = 0.0
    removed: int = 0
    generation: int = 0

    @property
    def chosen(self) -> OperatingPoint | None:
        """Measurements of the current search setting; None if there are none."""
        return next((point for point in self.frontier if point.params == self.params), None)

    def to_json(self) -> bytes:
        """The manifest as a file; ``read`` gives it back."""
        return _FORMAT.encode(asdict(self))

    @classmethod
    def of(cls, index: str | os.PathLike[str]) -> IndexManifest:
        """The manifest of an index, which may be at a URL; errors as those of ``read``."""
        return cls.read((find(index) or Path(index)) / MANIFEST)

    @classmethod
    def read(cls, path: Path) -> IndexManifest:
        """Reads and checks a manifest.

        Raises:
            IndexFileError: There is none, or one of another format.
            IndexCorruptError: It is damaged.
        """
        if not path.is_file():
            raise IndexFileError(wrong_kind(path.parent, "index"))
        content = _FORMAT.read(path)
        version = content.pop("format_version")
        try:
            read = _from_version_1(content) if version == 1 else _from_content(content)
            _check(read)
        except (TypeError, KeyError, ValueError, AttributeError, StoreFormatError) as exc:
            raise IndexCorruptError(f"{path}: not as an index's manifest: {exc}") from exc
        return read


def _check(manifest: IndexManifest) -> None:
    """Compares all fields with their types.

    Raises:
        TypeError: A field is of another type.
        ValueError: A file lies outside the index.
        StoreFormatError: What it says of the stores isn't that.
    """
    points = manifest.frontier
    parts = (manifest, manifest.spec, *manifest.files.values(), *manifest.stores, *points)
    for part in (*parts, manifest.params, *(point.params for point in points)):
        check_fields(part)
    for entry in manifest.files.values():
        if not _NAME.fullmatch(entry.name):
            raise ValueError(f"file {entry.name!r} lies outside the index")
    if manifest.rerank and not manifest.stores:
        raise ValueError("candidates are reranked, but it names no store")
    StoreMeta.from_config(manifest.meta)


def _from_version_1(content: dict[str, Any]) -> IndexManifest:
    """Format 1 has only exact indexes of two files."""
    names = {"index": "index.faiss", "ids": "ids.bin"}
    files = {role: FileEntry(name, content["files"][name]) for role, name in names.items()}
    spec = IndexSpec(factory="Flat", metric=content["metric"])
    size = 4.0 * content["dim"]
    return IndexManifest(**{**content, "files": files}, spec=spec, bytes_per_vector=size)


def _from_content(content: dict[str, Any]) -> IndexManifest:
    files = {role: FileEntry(**entry) for role, entry in content["files"].items()}
    return IndexManifest(
        **{
            **content,
            "files": files,
            "spec": IndexSpec.from_config(content["spec"]),
            "stores": tuple(StoreEntry(**entry) for entry in content["stores"]),
            "params": SearchParams.from_config(content["params"]),
            "frontier": tuple(OperatingPoint.from_config(p) for p in content["frontier"]),
        }
    )
