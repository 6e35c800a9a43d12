"""The clusters of rows, once the centers are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedkit.analysis.classification.head import likeliest
from embedkit.index.spherical_kmeans import assign

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embedkit.index.store_rows import StoreRows
    from embedkit.types import Head

__all__ = ["ClusteredRows", "applicable_head", "clustered"]


class ClusteredRows(NamedTuple):
    """Some rows and their clusters.

    Attributes:
        where: Their places among the numbers that were asked for.
        clusters: ``(n,)`` int32, the nearest center of each.
        distances: ``(n,)`` float32, one less the cosine to it, 0 to 2.
        classes: ``(n,)`` int32, the likeliest class of each; None without a classifier.
    """

    where: slice
    clusters: NDArray[np.int32]
    distances: NDArray[np.float32]
    classes: NDArray[np.int32] | None


def applicable_head(rows: StoreRows) -> Head | None:
    """The stored classifier of some stores; None if there is none that applies to their rows."""
    return rows.stores[0].head if rows.stores[0].meta.head_applies else None


def clustered(
    rows: StoreRows, numbers: NDArray[np.int64], centers: NDArray[np.float32], head: Head | None
) -> Iterator[ClusteredRows]:
    """All rows with their clusters, a bounded number at a time; see ``assign``."""
    for part in assign(rows, numbers, centers, "assigning clusters"):
        classes = None if head is None else likeliest(part.rows, head, 1)[0][:, 0]
        yield ClusteredRows(
            part.where,
            part.clusters.astype(np.int32),
            np.maximum(1 - part.cosines, 0),
            None if classes is None else classes.astype(np.int32),
        )
