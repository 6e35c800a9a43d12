"""What a Ray worker does to verify pairs: reads the images, and compares them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.dedup.api import images_of
from embedkit.dedup.verification.batch import PairComparer
from embedkit.distributed.shared_stores import reopened_by_worker
from embedkit.distributed.worker import reserved_cores

if TYPE_CHECKING:
    import threading

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.dedup.verification.geometric import Evidence
    from embedkit.dedup.verification.keypoints import Keypoints

    Image = tuple[int, str]  # the number of the store, and the id

__all__ = ["ComparerWorker"]


class ComparerWorker:
    """The work of one Ray worker, with the sources open; keypoints are kept from task to task.

    Args:
        settings: ``folder``, the driver's current folder; ``stores``, the path and the fingerprint
            of each; ``images`` and ``root``, as ``find_duplicates`` takes them.

    Raises:
        WorkerError: This machine doesn't see the driver's folder.
        StoreError: It doesn't see a store, or sees another one.
        SourceError: It sees no image of a store.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        stores = reopened_by_worker(
            settings["stores"], Path(settings["folder"]), settings["images"]
        )
        self._sources = [images_of(one, settings["images"], settings["root"]) for one in stores]
        self._compare: PairComparer[Image] = PairComparer(self._pixels, reserved_cores())
        self._compare.__enter__()  # it ends with the process

    def do(
        self, task: dict[str, Any], _: threading.Event
    ) -> list[Evidence | None] | list[Keypoints | None]:
        """The evidence of each pair, or the keypoints of each image."""
        if "images" in task:
            return self._compare.keypoints(task["images"])
        return self._compare(task["pairs"])

    def _pixels(self, image: Image) -> NDArray[np.uint8]:
        side, name = image
        return self._sources[side](name)
