"""The nearest rows of each row, found within cells by the workers of a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedkit.dedup.candidates.ivf_join import Cells
from embedkit.dedup.candidates.ray_cells import RayCells
from embedkit.distributed.cluster import connected

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.dedup.scoring.background import Whitening
    from embedkit.dedup.unit_rows import UnitRows
    from embedkit.distributed.cluster import RayCluster
    from embedkit.store import EmbeddingStore

__all__ = ["RayNearest"]


@dataclass(frozen=True)
class RayNearest:
    """Finds the nearest rows.

    Attributes:
        cluster: The cluster; all its machines must see the stores.
        stores: One store, or two.
        second: Any rows of the second one, if there are two.
    """

    cluster: RayCluster
    stores: Sequence[EmbeddingStore]
    second: UnitRows | None

    def __call__(
        self, rows: UnitRows, others: UnitRows, count: int, whitening: Whitening | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The nearest of ``others`` for each row; as ``neighbours.nearest``, within cells.

        Raises:
            WorkerError: There is no cluster, or a worker failed.
        """
        work = RayCells(self.cluster, self.stores, self.second, whitening)
        with connected(self.cluster.address):
            cells = Cells.of(rows, others, work, whitening=whitening)
            return work.nearest(rows, others, cells, count)
