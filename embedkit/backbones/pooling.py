"""From a timm network to a module that gives one feature vector an image.

Everything here is plain tensor code without decisions on data, so that the module can be traced,
converted and compiled.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["POOLINGS", "FeatureModule", "Pooling", "gem"]

Pooling = Literal["avg", "gem", "max", "avg+max"]
POOLINGS: tuple[Pooling, ...] = ("avg", "gem", "max", "avg+max")


def gem(maps: torch.Tensor, p: float = 3.0, eps: float = 1e-6) -> torch.Tensor:
    """Pool by the generalised mean ``(mean(x ** p)) ** (1 / p)`` over height and width.

    Args:
        maps: ``(B, C, H, W)`` float.
        p: 1 is the average; the larger, the nearer to the maximum.
        eps: Least value that is averaged, as powers need positive numbers.

    Returns:
        ``(B, C)`` float.

    Source: Radenovic, Tolias, Chum 2018, "Fine-tuning CNN image retrieval with no human
    annotation", arXiv 1711.02512, equation 3; p = 3 and eps = 1e-6 are theirs.
    """
    return maps.clamp(min=eps).pow(p).mean((-2, -1)).pow(1.0 / p)


class FeatureModule(nn.Module):
    """Normalised images ``(B, 3, H, W)`` in, features ``(B, D)`` float32 out, in one pass.

    Args:
        net: A timm network without its classifier.
        pooling: How a feature map becomes a vector.
        own_pooling: The pooling that is, of the last layer, whatever the network itself hands to
            its classifier: for a ResNet the average, for one with a projection what that gives.
        gem_p: The exponent of ``gem``.
        layers: Stages of ``net.feature_info`` whose pooled maps are concatenated in this order;
            none means the last layer.
        flip: Average the features of each image and of its mirror image.

    Raises:
        ValueError: If a setting is unknown, or the network doesn't have what it needs.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        pooling: Pooling = "avg",
        own_pooling: Pooling = "avg",
        gem_p: float = 3.0,
        layers: Sequence[str] = (),
        flip: bool = False,
    ) -> None:
        super().__init__()
        self.net: Any = net  # nn.Module's own typing hides the methods that timm adds
        self.pooling = pooling
        self.own_pooling = own_pooling
        self.layers = tuple(layers)
        self.flip = flip
        self._pool = _choose_pool(pooling, gem_p)
        self._indices = _layer_indices(net, self.layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed a batch.

        Args:
            images: ``(B, 3, H, W)`` float, normalised.

        Returns:
            ``(B, D)`` float32.
        """
        features = self._features(images)
        if self.flip:
            features = (features + self._features(images.flip(-1))) / 2
        return features

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        if self.layers:
            return torch.cat([self._pool(maps.float()) for maps in self._stages(images)], dim=1)
        maps = self.net.forward_features(images)
        if self.pooling == self.own_pooling:
            return self.net.forward_head(maps, pre_logits=True).float()  # type: ignore[no-any-return]
        return self._pool(maps.float())

    def _stages(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the maps of ``layers``, each ``(B, C, H, W)``, in the order asked for."""
        indices = sorted(self._indices)
        found = self.net.forward_intermediates(
            images, indices=indices, intermediates_only=True, stop_early=True
        )
        return [found[indices.index(index)] for index in self._indices]

    def check_maps(self, size: int) -> int:
        """Run once on a blank image and return D.

        Args:
            size: Side of the image, pixels.

        Raises:
            ValueError: If the network refuses that size, or the pooling asked for needs feature
                maps ``(B, C, H, W)`` that the network doesn't have.
        """
        blank = torch.zeros(1, 3, size, size)
        with torch.inference_mode():
            try:
                if self.pooling != self.own_pooling and not self.layers:
                    self._check_last_maps(self.net.forward_features(blank))
                return int(self(blank).shape[1])
            except (AssertionError, RuntimeError) as exc:
                # timm asserts the size where a network takes one size only
                raise ValueError(f"the network does not take {size}x{size} images: {exc}") from exc

    def _check_last_maps(self, maps: torch.Tensor) -> None:
        if maps.ndim != 4 or maps.shape[1] != self.net.num_features:
            raise ValueError(
                f"pooling {self.pooling!r} needs feature maps (B, C, H, W), which this network's "
                "last layer doesn't give: use 'avg', or name layers"
            )


def _choose_pool(pooling: str, gem_p: float) -> Callable[[torch.Tensor], torch.Tensor]:
    if not (math.isfinite(gem_p) and gem_p > 0):
        raise ValueError(f"gem_p must be a positive number, not {gem_p}")
    pools: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "avg": _average,
        "gem": partial(gem, p=gem_p),
        "max": _maximum,
        "avg+max": _average_and_maximum,
    }
    if pooling not in pools:
        raise ValueError(f"pooling {pooling!r} is none of {', '.join(POOLINGS)}")
    return pools[pooling]


def _average(maps: torch.Tensor) -> torch.Tensor:
    return maps.mean((-2, -1))


def _maximum(maps: torch.Tensor) -> torch.Tensor:
    return maps.amax((-2, -1))


def _average_and_maximum(maps: torch.Tensor) -> torch.Tensor:
    return torch.cat([_average(maps), _maximum(maps)], dim=1)


def _layer_indices(net: nn.Module, layers: tuple[str, ...]) -> list[int]:
    """Find the layers among the network's named stages."""
    names = [str(stage["module"]) for stage in getattr(net, "feature_info", ())]
    unknown = [layer for layer in layers if layer not in names]
    if unknown:
        raise ValueError(
            f"no layer {', '.join(unknown)}: this network has {', '.join(names) or 'none by name'}"
        )
    if len(set(layers)) < len(layers):
        raise ValueError(f"a layer is named twice in {', '.join(layers)}")
    return [names.index(layer) for layer in layers]
