"""Building a network and loading its weights: the part of a backbone that needs torch and timm."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import timm
import torch

from embedkit.backbones.checkpoint import fingerprint, load_weights
from embedkit.backbones.config import BackboneMetadata
from embedkit.backbones.head import detach_head
from embedkit.backbones.pooling import FeatureModule
from embedkit.backbones.sscd import own_name, sscd_network
from embedkit.backbones.tiny import TinyNet
from embedkit.backbones.weight_files import WeightsFile, check_file_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from embedkit.backbones.config import BackboneConfig
    from embedkit.backbones.spec import BackboneSpec

__all__ = ["Built", "build"]


class Built(NamedTuple):
    """A network that is built and loaded.

    Attributes:
        module: In eval mode, on the CPU, without the classifier.
        findings: What it told.
        file: Its weights; None where they are random.
        sha256: Of the weights file, which was the same before and after it was read; else empty.
    """

    module: FeatureModule
    findings: BackboneMetadata
    file: WeightsFile | None
    sha256: str


def build(recipe: BackboneConfig, obtain: Callable[[], WeightsFile] | None) -> Built:
    """Build a network by its recipe and load its weights.

    Args:
        recipe: All but the weights.
        obtain: Finds or downloads the weights file; None for random weights.

    Raises:
        WeightsError: The weights can't be had, or aren't this network's.
        ValueError: A setting is unknown, or the network can't do it.
    """
    net = _bare_network(recipe.spec, recipe.seed or 0)
    module = FeatureModule(
        net,
        pooling=recipe.pooling,
        own_pooling=recipe.spec.pooling,
        gem_p=recipe.gem_p,
        layers=recipe.layers,
        flip=recipe.flip,
    ).eval()
    # Before the weights, so that a setting that can't work costs no download.
    feature_dim = module.check_maps(recipe.preprocessing.crop)
    file, sha256 = None, ""
    if obtain is not None:
        file = obtain()
        sha256 = _load(recipe.spec, net, file)
    digest = fingerprint(net)
    head, head_name = detach_head(net)
    return Built(module, BackboneMetadata(digest, feature_dim, head, head_name), file, sha256)


def _bare_network(spec: BackboneSpec, seed: int) -> nn.Module:
    """Build the bare network with seeded random weights; the caller's random state stays."""
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator alone: torch.manual_seed would also reseed the GPUs.
        torch.default_generator.manual_seed(seed)
        if spec.arch == "tiny":
            net: nn.Module = TinyNet()
        elif spec.projection:
            net = sscd_network(spec.arch, spec.feature_dim)
        else:
            net = timm.create_model(spec.timm_name, pretrained=False)
    return net.eval()


def _load(spec: BackboneSpec, net: nn.Module, file: WeightsFile) -> str:
    """Load a file into the network; return its SHA-256, or nothing if it changed meanwhile."""
    before = check_file_hash(file.path)
    load_weights(
        net,
        file.path,
        # The packaged file has another project's names, in the same order.
        by_order=spec.source == "package",
        rename=own_name if spec.projection else None,
        state_dict_url=spec.url,
    )
    return before if check_file_hash(file.path) == before else ""
