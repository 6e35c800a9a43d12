"""Slots for batches in flight on a device: memory, and on CUDA a stream for copies, per batch.

While one batch is computed, the next one is copied there and the one before is copied back. Each
slot has memory of its own, so slots share nothing but the device's time. There is no queue and no
thread: a caller takes a free slot, follows its batch through, and gives the slot back.
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

    from embedkit.engines.module import SplitBatch

__all__ = ["BatchSlot", "BatchSlots", "CpuSlot", "open_slots"]


class BatchSlot(ABC):
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
            # After an error too: no operation may still use this memory for the next caller.
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


class CpuSlot(BatchSlot):
    """A slot on the CPU itself: what is begun is done when the call returns.

    Args:
        batch: ``(B, S, S, 3)``.
        feature_dim: D.
        step: The computation; it runs once here.
    """

    def __init__(self, batch: tuple[int, ...], feature_dim: int, step: SplitBatch) -> None:
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


class BatchSlots:
    """Lends slots to callers; as many batches are under way as there are slots."""

    def __init__(self, slots: Sequence[BatchSlot]) -> None:
        self._free: queue.SimpleQueue[BatchSlot] = queue.SimpleQueue()
        for slot in slots:
            self._free.put(slot)

    def __call__(self, images: torch.Tensor) -> NDArray[np.float32]:
        """Take a batch through the next free slot; see `BatchSlot`."""
        slot = self._free.get()
        try:
            return slot(images)
        finally:
            self._free.put(slot)

    def close(self) -> None:
        """Let go of the slots that nobody uses, and of their memory."""
        while not self._free.empty():
            self._free.get()


def open_slots(
    make: Callable[[], Sequence[BatchSlot]], step: SplitBatch, give_back: Callable[[], None]
) -> BatchSlots:
    """Open the slots; batches are split into parts that fit into the device's memory.

    All memory that a batch needs is taken here.

    Args:
        make: Makes all slots and runs each once.
        step: What they run; its parts are halved until that works.
        give_back: Gives the memory of a failed attempt back to the device.

    Raises:
        OutOfMemoryError: Not even one image fits.
    """
    while True:
        try:
            return BatchSlots(make())
        except torch.OutOfMemoryError:
            if step.part == 1:
                raise
        gc.collect()  # frees reference cycles of the failed attempt
        give_back()
        step.halve()
