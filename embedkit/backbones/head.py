"""The classifier that is split off a backbone, kept so that classes need no second pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn

from embedkit.types import Head

__all__ = ["attach_head", "detach_head"]


def detach_head(net: Any) -> tuple[Head | None, str]:
    """Take the classifier off a timm network, in place.

    Args:
        net: A timm network with its classifier.

    Returns:
        The classifier and its name in the network. ``(None, "")``, with the network unchanged,
        where the classifier is no plain linear layer.
    """
    classifier = net.get_classifier()
    if not isinstance(classifier, nn.Linear):
        return None, ""
    name = next(name for name, module in net.named_modules() if module is classifier)
    net.set_submodule(name, nn.Identity())
    weight = classifier.weight.detach().float().numpy()
    bias = (
        np.zeros(len(weight), np.float32)
        if classifier.bias is None
        else classifier.bias.detach().float().numpy()
    )
    class_names, class_ids = _class_names(len(weight))
    return Head(weight, bias, class_names, class_ids), name


def attach_head(net: nn.Module, head: Head, name: str) -> None:
    """Put a classifier back where `detach_head` found it, in place.

    Args:
        net: The network without its classifier.
        head: The classifier.
        name: The classifier's name in the network.
    """
    classes, dim = head.weight.shape
    like = next(net.parameters())
    # Uninitialised: drawing weights only to replace them would disturb the random state.
    linear = nn.Linear(dim, classes, device="meta", dtype=like.dtype).to_empty(device=like.device)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(head.weight))
        linear.bias.copy_(torch.from_numpy(head.bias))
    net.set_submodule(name, linear)


def _class_names(count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the classes: ImageNet's where their number says so, numbers otherwise."""
    subset = infer_imagenet_subset({"num_classes": count})
    if subset is None:
        return tuple(f"class {index}" for index in range(count)), ()
    info = ImageNetInfo(subset)
    return tuple(info.label_descriptions()), tuple(info.label_names())
