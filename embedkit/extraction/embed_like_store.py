"""Embeds new images with the backbone and settings of an existing store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embedkit.backbones import load_configured
from embedkit.backbones.config import LoadConfig
from embedkit.decode.preprocessing import Preprocessing
from embedkit.errors import StoreFormatError, StoreMismatchError
from embedkit.extraction.extract import extract
from embedkit.extraction.source_images import policy_of

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from embedkit.backbones import Backbone
    from embedkit.extraction.runner import ExtractResult
    from embedkit.store import StoreMeta

__all__ = ["backbone_of", "embed_likewise"]


def backbone_of(meta: StoreMeta, weights: str | os.PathLike[str] = "auto") -> Backbone:
    """Loads the backbone of a store, with its weights, preprocessing and pooling.

    Args:
        meta: The store's metadata.
        weights: ``auto``, or the file that the store was embedded with.

    Raises:
        BackboneError: The backbone or its weights aren't available.
        StoreFormatError: The store has a setting that this version doesn't know.
        StoreMismatchError: The weights differ from those of the store.
    """
    kind, _, seed = meta.weights.partition(":")
    try:
        preprocessing = Preprocessing.from_config(meta.preprocessing)
        config = LoadConfig(weights=weights, preprocessing=preprocessing, **_pooling_settings(meta))
    except (TypeError, ValueError, KeyError) as exc:
        raise StoreFormatError(
            f"the images were embedded with settings that this embedkit doesn't know ({exc})"
        ) from exc
    if weights == "auto" and kind == "random":
        config = replace(config, weights="random", seed=int(seed))
    backbone = load_configured(meta.backbone, config)
    if backbone.fingerprint != meta.weights_fingerprint:
        differences = {
            "weights": (meta.weights, backbone.weights),
            "weights_fingerprint": (meta.weights_fingerprint, backbone.fingerprint),
        }
        raise StoreMismatchError(
            str(meta.backbone), differences, way_out="pass the store's weights by weights=FILE"
        )
    return backbone


def _pooling_settings(meta: StoreMeta) -> dict[str, Any]:
    """The fields of `LoadConfig` that say how features are pooled.

    Raises:
        KeyError: A setting is missing, or isn't known.
    """
    pooling = dict(meta.pooling)
    settings = {name: pooling.pop(name) for name in ("pooling", "gem_p", "layers", "flip")}
    if pooling:
        raise KeyError(*pooling)
    settings["layers"] = tuple(settings["layers"])
    return {name: value for name, value in settings.items() if value is not None}


def embed_likewise(
    meta: StoreMeta,
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: Path,
    *,
    weights: str | os.PathLike[str] = "auto",
    device: str = "auto",
) -> ExtractResult:
    """Embeds images into a new store, with the settings of another store.

    Args:
        meta: Metadata of the other store.
        source: The images.
        output: The store to write.
        weights: ``auto``, or the file that the other store was embedded with.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.

    Raises:
        SourceError: The source can't be listed, or holds no image.
        BackboneError: The backbone or its weights aren't available.
        StoreMismatchError: The weights differ from those of the store.
    """
    return extract(
        source, output, backbone=backbone_of(meta, weights), device=device, labels="none",
        precision="fp32", dtype="float32" if meta.dtype == "float32" else "float16",
        normalize=meta.normalized, decoder=meta.decode["decoder"], policy=policy_of(meta),
    )  # fmt: skip
