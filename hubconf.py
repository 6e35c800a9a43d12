"""Entry points for ``torch.hub.load``: the names of the original hub, one for each backbone."""

from collections.abc import Callable as _Callable
from os import PathLike as _PathLike
from typing import Any as _Any

from torch import nn as _nn

from embedkit.backbones import BACKBONES as _BACKBONES
from embedkit.backbones import BackboneSpec as _BackboneSpec
from embedkit.backbones import load_backbone as _load_backbone

dependencies = ["PIL", "filelock", "numpy", "safetensors", "timm", "torch", "torchvision"]


def _entry(spec: _BackboneSpec) -> _Callable[..., _nn.Module]:
    """Make the entry point of one backbone."""

    def entry(
        pretrained: bool = True,
        features: bool = False,
        weights: str | _PathLike[str] | None = None,
        **settings: _Any,
    ) -> _nn.Module:
        chosen = weights or ("auto" if pretrained else "random")
        backbone = _load_backbone(spec.name, weights=chosen, **settings)
        return backbone.module if features else backbone.classifier

    entry.__name__ = entry.__qualname__ = spec.name
    entry.__doc__ = f"""{spec.name}: {spec.supervision}. Weights: {spec.licence}.

    Args:
        pretrained: Load the published weights; random ones otherwise.
        features: Return the network without its classifier, which gives features (B, D).
        weights: A file, "auto" or "random", instead of what ``pretrained`` says.
        **settings: Other arguments of ``embedkit.backbones.load_backbone``.

    Returns:
        The network in eval mode. It takes (B, 3, 224, 224) float images, ImageNet-normalised.
    """
    return entry


# torch.hub lists what it finds by name in this module, so each backbone gets its name here.
globals().update({spec.name: _entry(spec) for spec in _BACKBONES.values() if spec.source == "hub"})
