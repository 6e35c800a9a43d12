"""What a shard holds and where: read and checked once, and known when the file is opened again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.store.format import BLOCK_ROWS, ordered_columns
from embedkit.store.schema import check_structure, read_annotations, read_counts, read_meta

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

    from embedkit.store.format import StoreCounts, StoreMeta

__all__ = ["ShardStructure", "read_structure"]


@dataclass(frozen=True)
class ShardStructure:
    """What a shard says of itself, once all of it was checked.

    Attributes:
        identity: The file, as ``identity_of`` knows it; a changed file has another one.
        meta: How the embeddings were computed.
        counts: What it holds.
        has_labels: Whether it holds labels.
        columns: The names of the columns of ``/images``.
        annotations: The columns of ``/annotations``: name to dtype, ``object`` for texts.
        offset: Where the embeddings begin, bytes.
        sums: ``(B, 32)`` uint8, the checksums of the blocks of rows.
        unchecked: ``(B,)`` bool, the blocks of rows whose checksum wasn't compared yet.
        plain: Columns whose texts HDF5 may read.
    """

    identity: tuple[int, ...]
    meta: StoreMeta
    counts: StoreCounts
    has_labels: bool
    columns: tuple[str, ...]
    annotations: dict[str, np.dtype[Any]]
    offset: int
    sums: NDArray[np.uint8]
    unchecked: NDArray[np.bool_]
    plain: set[str] = field(default_factory=set)


def read_structure(path: Path, h5: h5py.File, identity: tuple[int, ...]) -> ShardStructure:
    """Reads and checks the structure of a shard.

    Args:
        path: The file, for errors.
        h5: The file, open.
        identity: As of ``identity_of``.

    Raises:
        StoreFormatError: It is no embedkit store, or of a newer format.
        StoreCorruptError: Its parts don't fit together.
    """
    meta, counts = read_meta(path, h5), read_counts(path, h5)
    check_structure(path, h5, meta, counts)
    return ShardStructure(
        identity, meta, counts, "labels" in h5, ordered_columns(h5["images"]),
        read_annotations(path, h5), h5["embeddings"].id.get_offset(),
        h5["checksums/embeddings"][:], np.ones(-(-counts.embedded // BLOCK_ROWS), np.bool_),
    )  # fmt: skip
