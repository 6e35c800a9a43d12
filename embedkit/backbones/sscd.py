"""The network of SSCD, whose descriptor is a projection of pooled features, and its weights' names.

Written from the publisher's description of it (`sscd_specs` names the source).
"""

from __future__ import annotations

import re

import timm
import torch
from torch import nn

from embedkit.backbones.pooling import gem

__all__ = ["own_name", "sscd_network"]

# From Classy Vision's names of a ResNet to torchvision's, which are timm's.
_CLASSY = (
    (r"initial_block\._module\.0\.", "conv1."),
    (r"initial_block\._module\.1\.", "bn1."),
    (r"blocks\.0\.block0-(\d+)\.", r"layer1.\1."),
    (r"blocks\.1\.block1-(\d+)\.", r"layer2.\1."),
    (r"blocks\.2\.block2-(\d+)\.", r"layer3.\1."),
    (r"blocks\.3\.block3-(\d+)\.", r"layer4.\1."),
    (r"(layer.*\.)convolutional_block\.0\.", r"\1conv1."),
    (r"(layer.*\.)convolutional_block\.1\.", r"\1bn1."),
    (r"(layer.*\.)convolutional_block\.3\.", r"\1conv2."),
    (r"(layer.*\.)convolutional_block\.4\.", r"\1bn2."),
    (r"(layer.*\.)convolutional_block\.6\.", r"\1conv3."),
    (r"(layer.*\.)bn\.", r"\1bn3."),
)
_PROJECTIONS = ("fc.", "embeddings.1.")  # torchvision's place of it, Classy Vision's


class Descriptor(nn.Module):
    """Feature maps ``(B, C, H, W)`` to unit vectors ``(B, D)``: GeM with p = 3, then linear."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(channels, dim)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Pool, project and normalise; powers and lengths are computed in float32."""
        pooled = gem(maps.float()).to(self.projection.weight.dtype)
        return nn.functional.normalize(self.projection(pooled).float())


def sscd_network(arch: str, dim: int) -> nn.Module:
    """Build a network with random weights.

    Args:
        arch: timm's name of the trunk, a ResNet or ResNeXt.
        dim: Length of the descriptor.

    Returns:
        timm's network without a classifier, whose global pooling is the whole descriptor.
    """
    net: nn.Module = timm.create_model(arch, pretrained=False, num_classes=0)
    net.global_pool = Descriptor(net.num_features, dim)  # type: ignore[arg-type]
    return net


def own_name(name: str) -> str:
    """Return the name that a tensor of a published file has in `sscd_network`'s network.

    Args:
        name: In the layout of torchvision or of Classy Vision, or already the network's own.
    """
    name = name.removeprefix("backbone.")
    for projection in _PROJECTIONS:
        if name.startswith(projection):
            return f"global_pool.projection.{name.removeprefix(projection)}"
    for published, own in _CLASSY:
        name = re.sub(f"^{published}", own, name)
    return name
