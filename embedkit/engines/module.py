"""The PyTorch module of an engine: uint8 pixels to float32 features, on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from embedkit.engines.fold_batchnorm import fold_batch_norms

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedkit.backbones.backbone import Backbone

__all__ = ["BackboneModule", "SplitBatch"]


class BackboneModule(nn.Module):
    """Normalises and embeds: ``(n, S, S, 3) uint8`` to ``(n, D) float32``.

    Args:
        backbone: It is copied, its batch normalisations folded.
        device: Where to compute.
        dtype: Data type of weights and feature maps; pixels and features are float32.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, backbone: Backbone, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        net = fold_batch_norms(backbone.module, backbone.preprocessing.crop)
        net = net.to(device=device, dtype=dtype)
        self.net = net.to(memory_format=torch.channels_last)
        self.dtype = dtype
        mean, std = (
            torch.tensor(values, dtype=torch.float64, device=device).view(1, 3, 1, 1)
            for values in (backbone.preprocessing.mean, backbone.preprocessing.std)
        )
        self.register_buffer("scale", (1 / (255 * std)).float())
        self.register_buffer("shift", (-mean / std).float())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed a batch, or a part of one."""
        # Channels last in memory already, so the permutation costs nothing.
        pixels = images.permute(0, 3, 1, 2).float() * self.scale + self.shift
        features: torch.Tensor = self.net(pixels.to(self.dtype)).float()
        return features


class SplitBatch:
    """A step that takes a batch in as few parts as the device's memory needs.

    Args:
        step: ``(n, S, S, 3) uint8`` to ``(n, D) float32``, on the device.
        batch_size: B.

    Attributes:
        part: Images per part; B at first.
    """

    def __init__(self, step: Callable[[torch.Tensor], torch.Tensor], batch_size: int) -> None:
        self._step = step
        self.part = batch_size

    def halve(self) -> None:
        """Take half as many images at once from now on, rounded up."""
        self.part = -(-self.part // 2)

    def __call__(self, images: torch.Tensor, features: torch.Tensor) -> None:
        """Embed a whole batch ``(B, S, S, 3)`` into ``features`` ``(B, D)``."""
        for start in range(0, len(images), self.part):
            part = slice(start, start + self.part)
            features[part].copy_(self._step(images[part]))
