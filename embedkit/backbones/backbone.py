"""Loading a backbone: all that decides its embeddings, and its network once that is needed."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from embedkit.backbones.config import BackboneConfig, LoadConfig
from embedkit.backbones.metadata_cache import Memory
from embedkit.backbones.registry import BACKBONES, TIMM_PREFIX, cache_folder, find_spec
from embedkit.backbones.timm_names import check_timm_name
from embedkit.backbones.weight_files import (
    WeightsFile,
    check_file_hash,
    check_obtainable,
    find_weights,
    obtain_weights,
)
from embedkit.errors import WeightsError
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.progress import Stage, reporting

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import nn

    from embedkit.backbones.config import BackboneMetadata
    from embedkit.backbones.pooling import FeatureModule, Pooling
    from embedkit.backbones.spec import BackboneSpec
    from embedkit.decode.preprocessing import Preprocessing
    from embedkit.types import Head
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Backbone", "load_backbone", "load_configured"]

_SMALLEST_INPUT = 32  # pixels; the networks halve the side five times
_RANDOM_LICENCE = "none (random weights)"
_building = threading.Lock()


@dataclass(slots=True, eq=False)
class _Network:
    """The network of a backbone, built when it is first asked for.

    Attributes:
        recipe: How it is built.
        file: Its weights; None where they are random.
        fingerprint: Of the weights that are expected.
        module: The network, once it is built.
    """

    recipe: BackboneConfig
    file: WeightsFile | None
    fingerprint: str
    module: FeatureModule | None = None

    def get(self) -> FeatureModule:
        with _building:
            if self.module is None:
                self.module = self._build()
            return self.module

    def _build(self) -> FeatureModule:
        from embedkit.backbones.build import build

        file = self.file
        built = build(self.recipe, None if file is None else lambda: file)
        if built.findings.fingerprint != self.fingerprint:
            raise WeightsError(
                f"{file.path if file else self.recipe.spec.name}: the weights are no longer those "
                f"that the backbone was loaded with (their fingerprint is "
                f"{built.findings.fingerprint}, not {self.fingerprint}): load the backbone again"
            )
        return built.module


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """A network that is ready to embed.

    Attributes:
        spec: What the table, or timm, says of it.
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
    _network: _Network = field(repr=False)

    @property
    def module(self) -> FeatureModule:
        """Normalised float images ``(B, 3, H, W)`` to features ``(B, feature_dim)`` float32.

        In eval mode, on the CPU, without the classifier; always the same object. A backbone that
        was loaded before is remembered, and its network is built only when it is asked for here.

        Raises:
            WeightsError: The weights file has gone, or changed, since the backbone was loaded.
        """
        return self._network.get()

    @property
    def classifier(self) -> nn.Module:
        """The whole network, images to logits, as a copy that shares nothing with ``module``."""
        from embedkit.backbones.head import attach_head

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


@plain_numbers
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
    progress: bool | ProgressCallback = False,
) -> Backbone:
    """Build a backbone and load its weights.

    Args:
        name: A name of the table (``resnet50_swsl``), timm's name for one of those
            (``resnet50.fb_swsl_ig1b_ft_in1k``), or ``timm:`` and any timm model.
        weights: ``auto`` (this machine, then the hub, then the first publisher), ``random``, or a
            ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file.
        seed: Of random weights.
        pooling: How a feature map becomes a vector; ``avg+max`` doubles the feature dim. ``avg``
            means ``gem`` for the SSCD backbones, which were trained with it.
        gem_p: Exponent of ``gem``.
        layers: Stages to pool and concatenate, by timm's names; none means the last layer.
        flip: Average with the features of the mirror image; costs a second pass.
        input_size: Side of the image that the network sees, pixels; the resize keeps its ratio.
        preprocessing: Instead of the one that the weights were trained with, or the fields of it
            to change (``{"resize": 224}``).
        cache: Instead of ``EMBEDKIT_CACHE``.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        The backbone, on the CPU, in eval mode.

    Raises:
        UnknownBackboneError: Neither the table nor timm has that name.
        BackboneError: The weights want a preprocessing that embedkit doesn't do.
        WeightsError: The weights can't be had, or aren't this network's.
        MissingExtraError: The weights are in a Python package that isn't installed.
        ValueError: A setting is unknown, or the network can't do it.
    """
    config = LoadConfig(
        weights, seed, pooling, gem_p, tuple(layers), flip, input_size, preprocessing
    )
    with reporting(progress):
        return load_configured(name, config, cache)


def load_configured(name: str, config: LoadConfig, cache: Path | None = None) -> Backbone:
    """``load_backbone`` with its settings in one object."""
    memory = Memory(cache_folder(cache) / "backbones")
    spec = _any_spec(name, memory)
    weights = config.weights
    is_random = weights == "random" or (spec.source == "none" and weights == "auto")
    changed = _changed(spec.preprocessing(), config.preprocessing)
    recipe = BackboneConfig(
        spec=spec,
        preprocessing=_with_input_size(changed, config.input_size),
        pooling=_pooling(spec, config),
        gem_p=config.gem_p,
        layers=config.layers,
        flip=config.flip,
        seed=config.seed if is_random else None,
    )
    here = None if is_random else find_weights(spec, weights, cache=cache)
    if here is None and not is_random:
        check_obtainable(spec, cache=cache)  # before PyTorch is imported, which takes seconds
    obtain = partial(obtain_weights, spec, weights, cache=cache)
    network, found = _load(memory, recipe, here, None if is_random else obtain)
    return Backbone(
        spec=spec,
        head=found.head,
        head_name=found.head_name,
        head_applies=found.head is not None and recipe.pooling == "avg" and not config.layers,
        preprocessing=recipe.preprocessing,
        feature_dim=found.feature_dim,
        pooling=recipe.pooling,
        gem_p=config.gem_p if recipe.pooling == "gem" else None,
        layers=config.layers,
        flip=config.flip,
        fingerprint=found.fingerprint,
        weights=network.file.provenance if network.file else f"random:{config.seed}",
        licence=_RANDOM_LICENCE if is_random else spec.licence,
        warning=None if is_random else spec.warning,
        _network=network,
    )


def _load(
    memory: Memory,
    recipe: BackboneConfig,
    here: WeightsFile | None,
    obtain: Callable[[], WeightsFile] | None,
) -> tuple[_Network, BackboneMetadata]:
    """Remember a backbone, or else build it and keep what is found out.

    Args:
        memory: Of earlier loads.
        recipe: The backbone.
        here: Its weights, where they are on this machine.
        obtain: Finds or downloads the weights; None for random ones.
    """
    if here is not None or obtain is None:
        path, sha256 = (here.path, check_file_hash(here.path)) if here else (None, "")
        found = memory.recall(recipe, path, sha256)
        if found is not None:
            return _Network(recipe, here, found.fingerprint), found
    from embedkit.backbones.build import build

    with Stage("loading the backbone"):
        built = build(recipe, obtain)
    if built.file is None or built.sha256:
        path = built.file.path if built.file else None
        memory.remember(recipe, path, built.sha256, built.findings)
    network = _Network(recipe, built.file, built.findings.fingerprint, built.module)
    return network, built.findings


def _any_spec(name: str, memory: Memory) -> BackboneSpec:
    """Look a name up in the table or, where it says ``timm:``, in timm."""
    if not name.lower().startswith(TIMM_PREFIX):
        return find_spec(name)
    timm_name = name[len(TIMM_PREFIX) :]
    listed = (spec for spec in BACKBONES.values() if spec.hub_id and spec.timm_name == timm_name)
    return next(listed, None) or memory.spec(timm_name, _ask_timm)


def _ask_timm(timm_name: str) -> BackboneSpec:
    check_timm_name(timm_name)
    from embedkit.backbones.timm_models import timm_spec

    return timm_spec(timm_name)


def _changed(own: Preprocessing, wanted: Preprocessing | Mapping[str, Any] | None) -> Preprocessing:
    """The preprocessing that is wanted: another one, or the own one with some fields changed."""
    if wanted is None:
        return own
    if not isinstance(wanted, Mapping):
        return wanted
    return type(own).from_config({**own.to_config(), **wanted})


def _pooling(spec: BackboneSpec, config: LoadConfig) -> Pooling:
    """The pooling that is asked for; before a projection, the one that the projection takes."""
    if not spec.projection or config.layers:
        return config.pooling
    gem_p = LoadConfig().gem_p
    if config.pooling not in ("avg", spec.pooling) or config.gem_p != gem_p:
        raise ValueError(
            f"{spec.name} has a projection that was trained for pooling={spec.pooling} with "
            f"gem_p={gem_p:g}: leave both out, or name layers, which are pooled without it"
        )
    return spec.pooling


def _with_input_size(preprocessing: Preprocessing, size: int | None) -> Preprocessing:
    if size is None:
        return preprocessing
    if size < _SMALLEST_INPUT:
        raise ValueError(f"input_size must be {_SMALLEST_INPUT} or more, not {size}")
    resize = round(size * preprocessing.resize / preprocessing.crop)
    return replace(preprocessing, crop=size, resize=resize)
