"""Compares pairs of images on the workers of a Ray cluster."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from embedkit.distributed.pool import Task, opened_pool
from embedkit.distributed.shared_stores import named

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from types import TracebackType

    from embedkit.dedup.verification.geometric import Evidence
    from embedkit.dedup.verification.keypoints import Keypoints
    from embedkit.distributed.cluster import RayCluster
    from embedkit.store import EmbeddingStore

__all__ = ["RayComparer"]

_WORKER = "embedkit.dedup.verification.ray_comparer_worker:ComparerWorker"
_TASKS_PER_WORKER = 2  # of each call: those that end early take another one


class RayComparer:
    """Compares pairs as ``PairComparer`` does; use it as a context manager.

    Args:
        cluster: The cluster; all its machines must see the stores and the images.
        stores: The store, or two.
        images: Where the images are, as ``find_duplicates`` takes it.
        root: As ``find_duplicates`` takes it.
        names: Of each image, by its number: which store has it, and its id.
    """

    def __init__(
        self,
        cluster: RayCluster,
        stores: Sequence[EmbeddingStore],
        images: Sequence[str | os.PathLike[str]],
        root: str | os.PathLike[str] | None,
        names: Sequence[tuple[int, str]],
    ) -> None:
        self._cluster = cluster
        self._settings: dict[str, Any] = {
            "folder": str(Path.cwd()),
            "stores": named(stores),
            "images": [str(one) for one in images],
            "root": None if root is None else str(root),
        }
        self._names = names
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        pool = opened_pool(self._cluster, _WORKER, self._settings)
        self._pool = self._stack.enter_context(pool)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def __call__(self, pairs: Sequence[tuple[int, int]]) -> list[Evidence | None]:
        """The evidence of each pair; None where one of its images can't be read.

        Raises:
            WorkerError: A worker failed.
        """
        order = sorted(range(len(pairs)), key=pairs.__getitem__)  # those of one image together
        step = max(1, -(-len(pairs) // (_TASKS_PER_WORKER * self._pool.workers)))
        found: list[Evidence | None] = [None] * len(pairs)

        def keep(task: Task, evidence: list[Evidence | None]) -> None:
            for at, one in zip(task.values["at"], evidence, strict=True):
                found[at] = one

        self._pool.run(
            [self._task(pairs, order[at : at + step]) for at in range(0, len(order), step)],
            None,
            keep,
        )
        return found

    def keypoints(self, images: Sequence[int]) -> list[Keypoints | None]:
        """Those of images; None where one can't be read.

        Raises:
            WorkerError: A worker failed.
        """
        step = max(1, -(-len(images) // (_TASKS_PER_WORKER * self._pool.workers)))
        found: list[Keypoints | None] = [None] * len(images)

        def keep(task: Task, keypoints: list[Keypoints | None]) -> None:
            start = task.values["start"]
            found[start : start + len(keypoints)] = keypoints

        names = [self._names[image] for image in images]
        tasks = [
            Task(
                f"find keypoints of {names[start][1]}",
                {"start": start, "images": names[start : start + step]},
            )
            for start in range(0, len(names), step)
        ]
        self._pool.run(tasks, None, keep)
        return found

    def _task(self, pairs: Sequence[tuple[int, int]], at: list[int]) -> Task:
        images = [(self._names[pairs[one][0]], self._names[pairs[one][1]]) for one in at]
        return Task(f"compare pixels of {images[0][0][1]}", {"at": at, "pairs": images})
