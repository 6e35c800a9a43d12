"""ResNets built by torchvision alone, with random weights that keep a signal alive."""

from __future__ import annotations

import torch
import torchvision
from torch import nn

__all__ = ["SIDE", "randomise", "torchvision_net"]

SIDE = 64  # pixels: the networks are fully convolutional, and the machine is shared


def torchvision_net(arch: str) -> nn.Module:
    """Build the architecture with torchvision alone, as the original checkpoints were."""
    block, groups, width, depths = torchvision.models.resnet.Bottleneck, 1, 64, [3, 4, 6, 3]
    if arch == "resnet18":
        block, depths = torchvision.models.resnet.BasicBlock, [2, 2, 2, 2]
    if "101" in arch:
        depths = [3, 4, 23, 3]
    if arch.startswith("resnext"):
        groups, width = (int(part) for part in arch.split("_")[1].removesuffix("d").split("x"))
    return torchvision.models.ResNet(block, depths, groups=groups, width_per_group=width)


def randomise(net: nn.Module) -> None:
    """Give batch norm weights and statistics that keep a signal alive through all layers."""
    generator = torch.Generator().manual_seed(3)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.0, generator=generator)
            module.bias.data.uniform_(-0.2, 0.2, generator=generator)
            module.momentum = None  # the statistics become those of the batch below
    with torch.no_grad():
        net.train()(torch.randn(4, 3, SIDE, SIDE, generator=generator))
    net.eval()
