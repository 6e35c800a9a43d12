"""Embedding images as those of a store were embedded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.backbones import load_backbone
from embedkit.decode.preprocessing import Preprocessing
from embedkit.errors import StoreMismatchError
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
    """Loads the backbone of a store, with its preprocessing and pooling.

    Args:
        meta: How the store was embedded.
        weights: ``auto``, or the file that it was embedded with.

    Raises:
        BackboneError: The backbone or its weights can't be had.
        StoreMismatchError: The weights here are others.
    """
    kind, _, seed = meta.weights.partition(":")
    settings = {name: value for name, value in meta.pooling.items() if value is not None}
    if weights == "auto" and kind == "random":
        weights, settings["seed"] = "random", int(seed)
    backbone = load_backbone(
        meta.backbone,
        weights=weights,
        preprocessing=Preprocessing.from_config(meta.preprocessing),
        **settings,
    )
    if backbone.fingerprint != meta.weights_fingerprint:
        differences = {"weights_fingerprint": (meta.weights_fingerprint, backbone.fingerprint)}
        raise StoreMismatchError(str(meta.backbone), differences)
    return backbone


def embed_likewise(
    meta: StoreMeta,
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: Path,
    *,
    weights: str | os.PathLike[str] = "auto",
    device: str = "auto",
) -> ExtractResult:
    """Embeds images into a new store, as another one was embedded.

    Args:
        meta: Of the other store.
        source: The images.
        output: The store to write.
        weights: ``auto``, or the file that the other store was embedded with.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.

    Raises:
        SourceError: The source can't be listed, or holds no image.
        BackboneError: The backbone or its weights can't be had.
        StoreMismatchError: The weights here are others.
    """
    return extract(
        source, output, backbone=backbone_of(meta, weights), device=device, labels="none",
        precision="fp32", dtype="float32" if meta.dtype == "float32" else "float16",
        normalize=meta.normalized, decoder=meta.decode["decoder"], policy=policy_of(meta),
    )  # fmt: skip
