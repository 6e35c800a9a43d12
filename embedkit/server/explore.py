"""The map, the clusters and the lists of an index; what takes long is made once, in a thread."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.analysis.outliers import find_outliers
from embedkit.analysis.quality import find_quality_issues
from embedkit.analysis.quality.measures import MEASURES
from embedkit.server.failure import RequestError
from embedkit.server.map_cache import map_of
from embedkit.store.detect import is_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embedkit.analysis.outliers import Outlier, Outliers
    from embedkit.analysis.quality import QualityReport
    from embedkit.server.served_index import ServedIndex

__all__ = ["Explorer"]

_MOST_OUTLIERS = 500  # per kind
_EXAMPLES = 8
_CLUSTER, _DISTANCE = "cluster", "cluster_distance"


class Explorer:
    """What is found out about an index besides searches.

    Args:
        served: The index.
    """

    def __init__(self, served: ServedIndex) -> None:
        self._served = served
        self._pool = ThreadPoolExecutor(1, "embedkit-explore")
        self._made: dict[str, Future[Any]] = {}

    @property
    def tabs(self) -> dict[str, bool]:
        """Which of the tabs there is something for."""
        served = self._served
        is_one = len(served.store_paths) == 1
        columns = served.column_names
        return {
            "map": len(served) > 0,
            "clusters": _CLUSTER in columns,
            "quality": is_one and {*MEASURES} <= {*columns},
            "outliers": is_one,
            "labels": is_one and bool(served.labels[1]),
        }

    def map(self) -> NDArray[np.float32]:
        """Where each image lies, ``(N, 2)`` float32 in the unit square.

        Raises:
            RequestError: 202; it is being computed.
        """
        points: NDArray[np.float32] = self._get("map", lambda: map_of(self._served.store_paths))
        return points

    def quality(self) -> QualityReport:
        """The issues of the images.

        Raises:
            RequestError: 202; they are being found. 404; the store has no measures.
        """
        self._need(
            "quality",
            "the store has no measures of quality; `embedkit quality --write` puts them in",
        )
        report: QualityReport = self._get("quality", self._find_issues)
        return report

    def outliers(self) -> Outliers:
        """Images far from all others, and doubtful labels.

        Raises:
            RequestError: 202; they are being found. 404; the index has several stores.
        """
        self._need("outliers", "outliers are found in indexes of one store")
        found: Outliers = self._get("outliers", self._find_outliers)
        return found

    def doubts(self) -> tuple[Outlier, ...]:
        """Labels that the neighbours contradict.

        Raises:
            RequestError: 202; they are being found. 404; the index has no labels.
        """
        self._need("labels", "the index has no labels; `embedkit label` puts them in")
        return self.outliers().labels

    @cached_property
    def clusters(self) -> list[tuple[int, int, list[int]]]:
        """Number, size and the rows of examples of each cluster.

        Raises:
            RequestError: 404; the store has no column of clusters.
        """
        self._need("clusters", "no column of clusters; `embedkit cluster --write` puts it in")
        served = self._served
        numbers = np.asarray(served.column(_CLUSTER))
        has_distance = _DISTANCE in served.column_names
        distances = np.asarray(served.column(_DISTANCE) if has_distance else np.zeros(len(numbers)))
        rows = np.flatnonzero(served.live & (numbers >= 0))
        order = rows[np.lexsort((distances[rows], numbers[rows]))]
        starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
        parts = np.split(order, starts[1:]) if len(order) else []
        return [(int(numbers[p[0]]), len(p), p[:_EXAMPLES].tolist()) for p in parts]

    def close(self) -> None:
        """Drops what waits; what is being computed ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _need(self, tab: str, message: str) -> None:
        if not self.tabs[tab]:
            raise RequestError(404, message)

    def _get(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._made:
            self._made[name] = self._pool.submit(make)
        if not self._made[name].done():
            raise RequestError(202, f"{name}: being computed", {"Retry-After": "1"})
        return self._made[name].result()

    def _find_issues(self) -> QualityReport:
        return find_quality_issues(self._served.store_paths[0])

    def _find_outliers(self) -> Outliers:
        served = self._served
        index = None if is_store(served.path) else served.path
        return find_outliers(served.store_paths[0], top=_MOST_OUTLIERS, index=index)
