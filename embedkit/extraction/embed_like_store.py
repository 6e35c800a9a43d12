"""Embeds new images with the backbone and settings of an existing store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.extraction.extract import extract
from embedkit.extraction.source_images import policy_of
from embedkit.extraction.store_settings import backbone_of

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from embedkit.extraction.runner import ExtractResult
    from embedkit.store import StoreMeta

__all__ = ["embed_likewise"]


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
