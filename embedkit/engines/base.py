"""The engine interface: uint8 images in, float32 embeddings out, callable from any thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedkit.utils.threads import usable_cores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.backbones.backbone import Backbone

__all__ = ["Engine", "usable_cores"]


class Engine(ABC):
    """Runs a backbone on batches of one fixed shape.

    A batch is always filled up to ``batch_size``, and never shared by several threads, so that
    the kernels, and hence every bit of a result, don't depend on how many images came or on what
    else is running.

    Attributes:
        name: ``openvino``, ``torch`` or ``torch-compiled``.
        version: The version of the library that runs.
        device: ``cpu``, ``cuda``, ``cuda:1``.
        precision: ``fp32``, ``bf16``, ….
        batch_size: B.
        input_size: Height and width of the images, pixels.
        feature_dim: D.
        in_flight: Batches that may be on the device at once, each with a caller that waits asleep;
            0 where the callers' own cores compute.
    """

    name: str
    version: str
    in_flight = 0

    def __init__(self, backbone: Backbone, *, device: str, precision: str, batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch size must be at least 1, not {batch_size}")
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.input_size = backbone.preprocessing.crop
        self.feature_dim = backbone.feature_dim

    def new_buffer(self) -> NDArray[np.uint8]:
        """Memory for one batch, ``(B, input_size, input_size, 3) uint8``, to be used again.

        It is memory that the device reads fastest, uninitialised. One thread fills it and
        calls ``embed``; when that returns, it may refill it.
        """
        return np.empty((self.batch_size, self.input_size, self.input_size, 3), np.uint8)

    def embed(self, images: NDArray[np.uint8], count: int | None = None) -> NDArray[np.float32]:
        """Embeds up to ``batch_size`` images; safe to call from several threads.

        Args:
            images: ``(n, input_size, input_size, 3)`` uint8 RGB, 1 <= n <= ``batch_size``. Fewer
                than ``batch_size`` are copied into a whole batch; a whole one is never copied.
            count: So many of a whole batch are images, from the first on; the rest is filled with
                zeros, in place. None: all that are given.

        Returns:
            ``(n, D)`` float32, or ``(count, D)``; a new array.

        Raises:
            ValueError: The shape or the count isn't that.
        """
        size, whole = self.input_size, self.batch_size
        if images.shape != (len(images), size, size, 3) or not 1 <= len(images) <= whole:
            raise ValueError(f"expected 1 to {whole} images of {size}x{size}x3, got {images.shape}")
        if count is None:
            count = len(images)
            if count < whole:
                images, given = self.new_buffer(), images
                images[:count] = given
        elif len(images) != whole or not 1 <= count <= whole:
            raise ValueError(
                f"a count of 1 to {whole} of {whole} images, not {count}, {len(images)}"
            )
        if count < whole:
            images[count:] = 0
        return self._run(images)[:count]

    @abstractmethod
    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeds exactly ``batch_size`` images into a new ``(B, D)`` float32 array."""

    def close(self) -> None:  # noqa: B027  # most engines hold nothing
        """Releases the engine's memory and threads."""

    def to_config(self) -> dict[str, Any]:
        """The engine's description for a store."""
        return {
            "name": self.name,
            "version": self.version,
            "device": self.device.split(":")[0],
            "precision": self.precision,
            "batch_size": self.batch_size,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
