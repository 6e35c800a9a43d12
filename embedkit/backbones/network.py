"""Loading a backbone: the network, its weights, its head, and all that decides its embeddings."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import timm
import torch

from embedkit.backbones.features import FeatureModule, Pooling
from embedkit.backbones.head import attach_head, detach_head
from embedkit.backbones.obtain import obtain_weights
from embedkit.backbones.table import BACKBONES, find_spec
from embedkit.backbones.timm_catalog import timm_spec
from embedkit.backbones.tiny import TinyNet
from embedkit.backbones.weights import check_file_hash, fingerprint, load_weights

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import nn

    from embedkit.backbones.spec import BackboneSpec
    from embedkit.preprocess import Preprocessing
    from embedkit.records import Head

__all__ = ["Backbone", "load_backbone"]

_TIMM = "timm:"
_SMALLEST_INPUT = 32  # pixels; the networks halve the side five times
_RANDOM_LICENCE = "none (random weights)"


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """A network that is ready to embed.

    Attributes:
        spec: What the table, or timm, says of it.
        module: Normalised float images ``(B, 3, H, W)`` to features ``(B, feature_dim)`` float32;
            in eval mode, on the CPU, without the classifier.
        head: The classifier that was taken off; None where it was no linear layer.
        head_name: The classifier's place in ``module.net``; empty where there is no head.
        head_applies: Whether ``head`` fits the features: it was trained on the average-pooled last
            layer. Flipping keeps it, since the mean of logits is the logits of the mean.
        preprocessing: From an image to the pixels that the module takes.
        feature_dim: D.
        pooling: ``avg``, ``gem``, ``max`` or ``avg+max``.
        gem_p: Exponent of ``gem``; None for the other poolings.
        layers: The stages that are pooled and concatenated; empty for the last layer.
        flip: Whether features are averaged with those of the mirror image.
        fingerprint: SHA-256 over the weights' tensors, 64 hex digits.
        weights: Where the weights are from: ``hub:ID``, ``url:URL``, ``package:NAME``,
            ``file:NAME`` or ``random:SEED``.
        licence: SPDX name of the weights' licence.
        warning: What a user must know before relying on them, or None.
    """

    spec: BackboneSpec
    module: FeatureModule
    head: Head | None
    head_name: str
    head_applies: bool
    preprocessing: Preprocessing
    feature_dim: int
    pooling: Pooling
    gem_p: float | None
    layers: tuple[str, ...]
    flip: bool
    fingerprint: str
    weights: str
    licence: str
    warning: str | None

    @property
    def classifier(self) -> nn.Module:
        """The whole network, images to logits, as a copy that shares nothing with ``module``."""
        net: nn.Module = copy.deepcopy(self.module.net)
        if self.head is not None:
            attach_head(net, self.head, self.head_name)
        return net.eval()

    def to_config(self) -> dict[str, Any]:
        """List everything that decides an embedding, in values that JSON can hold."""
        return {
            "backbone": self.spec.name,
            "timm_name": self.spec.timm_name,
            "weights_fingerprint": self.fingerprint,
            "weights": self.weights,
            "licence": self.licence,
            "preprocessing": self.preprocessing.to_config(),
            "pooling": self.pooling,
            "gem_p": self.gem_p,
            "layers": list(self.layers),
            "flip": self.flip,
            "input_size": self.preprocessing.crop,
            "feature_dim": self.feature_dim,
        }


def load_backbone(
    name: str = "resnet50_swsl",
    *,
    weights: str | os.PathLike[str] = "auto",
    seed: int = 0,
    pooling: Pooling = "avg",
    gem_p: float = 3.0,
    layers: Sequence[str] = (),
    flip: bool = False,
    input_size: int | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    cache: Path | None = None,
    on_download: Callable[[str, int, int | None], None] | None = None,
) -> Backbone:
    """Build a backbone and load its weights.

    Args:
        name: A name of the table (``resnet50_swsl``), timm's name for one of those
            (``resnet50.fb_swsl_ig1b_ft_in1k``), or ``timm:`` and any timm model.
        weights: ``auto`` (this machine, then the hub, then the first publisher), ``random``, or a
            ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file.
        seed: Of random weights.
        pooling: How a feature map becomes a vector; ``avg+max`` doubles the feature dim.
        gem_p: Exponent of ``gem``.
        layers: Stages to pool and concatenate, by timm's names; none means the last layer.
        flip: Average with the features of the mirror image; costs a second pass.
        input_size: Side of the image that the network sees, pixels; the resize keeps its ratio.
        preprocessing: Instead of the one that the weights were trained with, or the fields of it
            to change (``{"resize": 224}``).
        cache: Instead of ``EMBEDKIT_CACHE``.
        on_download: Called while weights are downloaded: file name, bytes here, bytes in all.

    Returns:
        The backbone, on the CPU, in eval mode.

    Raises:
        UnknownBackboneError: Neither the table nor timm has that name.
        BackboneError: The weights want a preprocessing that embedkit doesn't do.
        WeightsError: The weights can't be had, or aren't this network's.
        MissingExtraError: The weights are in a Python package that isn't installed.
        ValueError: A setting is unknown, or the network can't do it.
    """
    spec = _any_spec(name)
    preprocessing = _with_input_size(_changed(spec.preprocessing(), preprocessing), input_size)
    net = _build(spec, seed)
    module = FeatureModule(net, pooling=pooling, gem_p=gem_p, layers=layers, flip=flip).eval()
    # Before the weights, so that a setting that can't work costs no download.
    feature_dim = module.check_maps(preprocessing.crop)
    is_random = weights == "random" or (spec.source == "none" and weights == "auto")
    provenance = f"random:{seed}" if is_random else _load(spec, net, weights, cache, on_download)
    digest = fingerprint(net)
    head, head_name = detach_head(net)
    return Backbone(
        spec=spec,
        module=module,
        head=head,
        head_name=head_name,
        head_applies=head is not None and pooling == "avg" and not layers,
        preprocessing=preprocessing,
        feature_dim=feature_dim,
        pooling=pooling,
        gem_p=gem_p if pooling == "gem" else None,
        layers=tuple(layers),
        flip=flip,
        fingerprint=digest,
        weights=provenance,
        licence=_RANDOM_LICENCE if is_random else spec.licence,
        warning=None if is_random else spec.warning,
    )


def _any_spec(name: str) -> BackboneSpec:
    """Look a name up in the table or, where it says ``timm:``, in timm."""
    if not name.lower().startswith(_TIMM):
        return find_spec(name)
    timm_name = name[len(_TIMM) :]
    listed = (spec for spec in BACKBONES.values() if spec.hub_id and spec.timm_name == timm_name)
    return next(listed, None) or timm_spec(timm_name)


def _changed(own: Preprocessing, wanted: Preprocessing | Mapping[str, Any] | None) -> Preprocessing:
    """The preprocessing that is wanted: another one, or the own one with some fields changed."""
    if wanted is None:
        return own
    if not isinstance(wanted, Mapping):
        return wanted
    return type(own).from_config({**own.to_config(), **wanted})


def _with_input_size(preprocessing: Preprocessing, size: int | None) -> Preprocessing:
    if size is None:
        return preprocessing
    if size < _SMALLEST_INPUT:
        raise ValueError(f"input_size must be {_SMALLEST_INPUT} or more, not {size}")
    resize = round(size * preprocessing.resize / preprocessing.crop)
    return replace(preprocessing, crop=size, resize=resize)


def _build(spec: BackboneSpec, seed: int) -> nn.Module:
    """Build the bare network with seeded random weights; the caller's random state stays."""
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator alone: torch.manual_seed would also reseed the GPUs.
        torch.default_generator.manual_seed(seed)
        net: nn.Module = (
            TinyNet()
            if spec.arch == "tiny"
            else timm.create_model(spec.timm_name, pretrained=False)
        )
    return net.eval()


def _load(
    spec: BackboneSpec,
    net: nn.Module,
    weights: str | os.PathLike[str],
    cache: Path | None,
    on_download: Callable[[str, int, int | None], None] | None,
) -> str:
    """Load published weights or a file into the network; return where they are from."""
    path, provenance = obtain_weights(spec, weights, cache=cache, on_progress=on_download)
    check_file_hash(path)
    # The packaged file has another project's names, in the same order.
    load_weights(net, path, by_order=spec.source == "package")
    return provenance
