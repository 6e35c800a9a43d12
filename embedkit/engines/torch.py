"""The backbone in PyTorch, on a CPU or a CUDA device."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import torch

from embedkit.engines.base import Engine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embedkit.backbones.network import Backbone

__all__ = ["TorchEngine"]


class TorchEngine(Engine):
    """Runs a backbone with PyTorch; on the CPU one thread a call, on CUDA one batch at a time."""

    name = "torch"
    version = torch.__version__

    def __init__(self, backbone: Backbone, *, device: str = "cpu", batch_size: int = 16) -> None:
        """Moves the backbone to the device.

        Raises:
            ValueError: There is no such device.
        """
        super().__init__(backbone, device=device, precision="fp32", batch_size=batch_size)
        self._device = _checked_device(device)
        module = backbone.module.to(self._device)
        self._module = module.to(memory_format=torch.channels_last)
        mean, std = backbone.preprocessing.mean, backbone.preprocessing.std
        self._mean = torch.tensor(mean, device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=self._device).view(1, 3, 1, 1)
        self._lock = threading.Lock()
        self._threads_before = torch.get_num_threads()
        if self._device.type == "cpu":
            torch.set_num_threads(1)  # the callers are as many as the cores

    def close(self) -> None:
        """Gives PyTorch its threads back."""
        torch.set_num_threads(self._threads_before)

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._device.type == "cpu":
            return self._forward(torch.from_numpy(images))
        with self._lock:
            return self._forward_in_memory(torch.from_numpy(images))

    def _forward_in_memory(self, images: torch.Tensor) -> NDArray[np.float32]:
        """Halves the batch until it fits into the device's memory."""
        try:
            return self._forward(images)
        except torch.cuda.OutOfMemoryError:
            if len(images) == 1:
                raise
        torch.cuda.empty_cache()
        first, second = images.chunk(2)
        halves = [self._forward_in_memory(first), self._forward_in_memory(second)]
        return torch.cat([torch.from_numpy(half) for half in halves]).numpy()

    @torch.inference_mode()
    def _forward(self, images: torch.Tensor) -> NDArray[np.float32]:
        pixels = images.to(self._device).permute(0, 3, 1, 2).float() / 255
        features = self._module((pixels - self._mean) / self._std)
        return np.asarray(features.float().cpu())


def _checked_device(device: str) -> torch.device:
    try:
        checked = torch.device(device)
        torch.empty(1, device=checked)
    except (RuntimeError, AssertionError) as exc:  # torch built without CUDA asserts
        raise ValueError(f"no device {device!r} here: {str(exc).splitlines()[0]}") from exc
    return checked
