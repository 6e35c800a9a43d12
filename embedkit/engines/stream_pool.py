"""Lanes: places at a device where batches are sent, computed and fetched, several at once.

While one batch is computed, the next is sent and the one before is fetched; each lane has memory
of its own, so nothing is shared but the device's time. There is no queue of batches and no thread
of its own: a caller takes a free lane, follows its batch through, and gives the lane back.
"""

from __future__ import annotations

import gc
import queue
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from embedkit.engines.module import PartedStep

__all__ = ["CpuLane", "Lane", "Lanes", "open_lanes"]


class Lane(ABC):
    """One place at a device, used by one caller at a time.

    Args:
        batch: ``(B, S, S, 3)``.
        feature_dim: D.
        device: Where to compute.

    Attributes:
        images: The device's memory for a batch, ``(B, S, S, 3) uint8``.
        features: The device's memory for what comes of it, ``(B, D) float32``.
        fetched: The host's memory for that; what the device reaches fastest.
    """

    def __init__(self, batch: tuple[int, ...], feature_dim: int, device: torch.device) -> None:
        rows = (batch[0], feature_dim)
        self.images = torch.zeros(batch, dtype=torch.uint8, device=device)
        self.features = torch.zeros(rows, dtype=torch.float32, device=device)
        self.fetched = torch.zeros(rows, dtype=torch.float32, pin_memory=device.type == "cuda")

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> NDArray[np.float32]:
        """Take a batch through.

        Args:
            images: ``(B, S, S, 3) uint8`` in the host's memory; it is free again afterwards.

        Returns:
            ``(B, D) float32``, a new array.
        """
        try:
            self._send(images)
            self._compute()
            self._fetch()
        finally:
            # After an error too: the next caller must find nothing under way in this memory.
            self._wait()
        rows: NDArray[np.float32] = self.fetched.numpy().copy()
        return rows

    @abstractmethod
    def _send(self, images: torch.Tensor) -> None:
        """Begin to copy a batch to the device."""

    @abstractmethod
    def _compute(self) -> None:
        """Begin to compute, once the batch is there."""

    @abstractmethod
    def _fetch(self) -> None:
        """Begin to copy the features back, once they are computed."""

    @abstractmethod
    def _wait(self) -> None:
        """Wait until all that was begun is done, without holding up other threads."""


class CpuLane(Lane):
    """A lane on the CPU itself: what is begun is done when the call returns.

    Args:
        batch: ``(B, S, S, 3)``.
        feature_dim: D.
        step: What is computed; it runs once here.
    """

    def __init__(self, batch: tuple[int, ...], feature_dim: int, step: PartedStep) -> None:
        super().__init__(batch, feature_dim, torch.device("cpu"))
        self._step = step
        with torch.inference_mode():
            step(self.images, self.features)

    def _send(self, images: torch.Tensor) -> None:
        self.images.copy_(images)

    def _compute(self) -> None:
        self._step(self.images, self.features)

    def _fetch(self) -> None:
        self.fetched.copy_(self.features)

    def _wait(self) -> None:
        pass


class Lanes:
    """Lends lanes to callers; as many batches are under way as there are lanes."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._free: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        for lane in lanes:
            self._free.put(lane)

    def __call__(self, images: torch.Tensor) -> NDArray[np.float32]:
        """Take a batch through the next free lane; see `Lane`."""
        lane = self._free.get()
        try:
            return lane(images)
        finally:
            self._free.put(lane)

    def close(self) -> None:
        """Let go of the lanes that nobody uses, and of their memory."""
        while not self._free.empty():
            self._free.get()


def open_lanes(
    make: Callable[[], Sequence[Lane]], step: PartedStep, give_back: Callable[[], None]
) -> Lanes:
    """Open the lanes, with batches in so many parts that they fit into the device's memory.

    All memory that a batch needs is taken here.

    Args:
        make: Makes all lanes and runs each once.
        step: What they run; its parts are halved until that works.
        give_back: Gives the memory of a failed attempt back to the device.

    Raises:
        OutOfMemoryError: Not even one image fits.
    """
    while True:
        try:
            return Lanes(make())
        except torch.OutOfMemoryError:
            if step.part == 1:
                raise
        gc.collect()  # the failed attempt may hang together in circles
        give_back()
        step.halve()
