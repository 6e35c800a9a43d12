"""A network of three convolutions, for tests and dry runs: it embeds, but it has learnt nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TinyNet"]


class TinyNet(nn.Module):
    """32x32 images to 16 features and 10 classes, with the methods of a timm network."""

    num_features = 16
    feature_info = (
        {"module": "conv1", "num_chs": 8, "reduction": 2},
        {"module": "conv2", "num_chs": 12, "reduction": 4},
        {"module": "conv3", "num_chs": 16, "reduction": 8},
    )

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(12, 16, 3, stride=2, padding=1)
        self.fc: nn.Module = nn.Linear(16, 10)

    def forward_intermediates(
        self, x: torch.Tensor, indices: Sequence[int] = (0, 1, 2), **_: bool
    ) -> list[torch.Tensor]:
        """Return the maps ``(B, C, H, W)`` of the stages asked for, in the network's order.

        timm's further options are taken and change nothing here.
        """
        stages = []
        for conv in (self.conv1, self.conv2, self.conv3)[: max(indices) + 1]:
            x = torch.relu(conv(x))
            stages.append(x)
        return [stages[index] for index in sorted(indices)]

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, 3, H, W)`` to ``(B, 16, H/8, W/8)``."""
        return self.forward_intermediates(x)[-1]

    def forward_head(self, x: torch.Tensor, *, pre_logits: bool = False) -> torch.Tensor:
        """Average over height and width, and classify unless only the features are wanted."""
        features = x.mean((-2, -1))
        return features if pre_logits else self.fc(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, 3, H, W)`` to logits ``(B, 10)``."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.fc
