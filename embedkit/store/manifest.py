"""The manifest of a sharded store: the list of shards and their common settings."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedkit.errors import StoreError, StoreFormatError
from embedkit.store.format import FORMAT_NAME, FORMAT_VERSION, StoreCounts, StoreMeta
from embedkit.utils.manifest import ManifestFormat

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["MANIFEST", "ShardEntry", "encode_manifest", "read_manifest"]

MANIFEST = "manifest.json"
_NAME = re.compile(r"\w[\w.-]*", re.ASCII)
_FORMAT = ManifestFormat(
    FORMAT_NAME,
    FORMAT_VERSION,
    "an embedkit store",
    "extract it again",
    missing=StoreError,
    other=StoreFormatError,
    damaged=StoreFormatError,
)


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One line of a manifest.

    Attributes:
        name: File name inside the store's folder.
        embedded: Rows.
        failed: Failures.
        skipped: Skipped files.
        sha256: SHA-256 (hex) of the file.
    """

    name: str
    embedded: int
    failed: int
    skipped: int
    sha256: str

    @property
    def counts(self) -> StoreCounts:
        """What the shard holds."""
        return StoreCounts(self.embedded, self.failed, self.skipped)


def encode_manifest(meta: StoreMeta, shards: Sequence[ShardEntry]) -> bytes:
    """The bytes of ``manifest.json``; ``read_manifest`` reads them."""
    shard_entries = [dataclasses.asdict(shard) for shard in shards]
    return _FORMAT.encode({"meta": meta.to_config(), "shards": shard_entries})


def read_manifest(folder: Path) -> tuple[StoreMeta, list[ShardEntry]]:
    """How the shards of a folder were made, and which they are.

    Raises:
        StoreError: There is no manifest.
        StoreFormatError: It isn't one, or of a newer format.
    """
    path = folder / MANIFEST
    manifest = _FORMAT.read(path)
    try:
        meta = StoreMeta.from_config(manifest["meta"])
        shards = [_read_entry(entry) for entry in manifest["shards"]]
    except (KeyError, TypeError, ValueError, StoreFormatError) as exc:
        raise StoreFormatError(f"{path}: not a store's manifest: {exc}") from exc
    if not shards:
        raise StoreFormatError(f"{path}: names no shard")
    if len({shard.name for shard in shards}) < len(shards):
        raise StoreFormatError(f"{path}: names a shard twice")
    return meta, shards


def _read_entry(entry: Any) -> ShardEntry:
    shard = ShardEntry(**entry)
    counts = (shard.embedded, shard.failed, shard.skipped)
    if any(type(count) is not int or count < 0 for count in counts):
        raise ValueError(f"shard {shard.name!r} has the counts {counts}")
    if not isinstance(shard.name, str) or not _NAME.fullmatch(shard.name):
        raise ValueError(f"shard {shard.name!r} lies outside the store")
    if not isinstance(shard.sha256, str) or len(shard.sha256) != 64:
        raise ValueError(f"shard {shard.name!r} has no SHA-256")
    return shard
