"""Previews an extraction: counts files, loads the backbone, estimates size; writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import numpy as np

from embedkit.engines import choose_engine, open_engine
from embedkit.extraction.config import JobOptions, prepare
from embedkit.store.working_dir import PartialStore

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from embedkit.backbones import Backbone
    from embedkit.backbones.load_options import LoadOptions
    from embedkit.engines import EngineName, Precision

__all__ = ["ExtractPreview", "preview"]


@dataclass(frozen=True, slots=True)
class ExtractPreview:
    """What an extraction would do.

    Attributes:
        found: Files that the source lists.
        sidecars: Of those, files that only accompany images.
        backbone: Its name.
        weights: Where its weights come from.
        licence: Of the weights.
        feature_dim: D.
        engine: What would run it, on which device, with which batch size.
        store_bytes: The embeddings' size, bytes.
        resumes: Whether an interrupted run would be gone on with.
        output: The store.
        exists: Whether it exists already.
    """

    found: int
    sidecars: int
    backbone: str
    weights: str
    licence: str
    feature_dim: int
    engine: str
    store_bytes: int
    resumes: bool
    output: str
    exists: bool


def preview(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    backbone: str | Backbone = "resnet50_swsl",
    engine: EngineName = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int | None = None,
    loading: LoadOptions | None = None,
    **options: Unpack[JobOptions],
) -> ExtractPreview:
    """Lists the source and loads the backbone, but writes nothing.

    Args:
        source: As ``extract``'s.
        output: As ``extract``'s.
        backbone: As ``extract``'s.
        engine: As ``extract``'s.
        device: As ``extract``'s.
        precision: As ``extract``'s; auto is decided by a trial, which this doesn't make.
        batch_size: As ``extract``'s.
        loading: How a backbone given by its name is loaded.
        **options: As ``extract``'s; see ``JobOptions``.

    Raises:
        SourceError: The source can't be listed.
        BackboneError: The backbone or its weights can't be had.
        ValueError: An option is out of its range.
    """
    choice = choose_engine(engine, device, precision, batch_size)
    job = prepare(source, output, backbone, options, loading or {})
    # Not compiled, which would take longer than a preview may.
    engine = "torch" if choice.name == "torch-compiled" else choice.name
    with open_engine(
        job.backbone, engine=engine, device=choice.device, batch_size=choice.batch_size
    ) as ready:
        precision_note = "bf16 or fp32 by trial" if choice.precision == "auto" else choice.precision
        runs = f"{choice.name} on {ready.device}, {precision_note}, batches of {ready.batch_size}"
    found = sidecars = 0
    for record in job.scan():
        found += 1
        sidecars += record.sidecar
    meta = job.meta
    return ExtractPreview(
        found=found,
        sidecars=sidecars,
        backbone=meta.backbone,
        weights=meta.weights,
        licence=meta.licence,
        feature_dim=meta.feature_dim,
        engine=runs,
        store_bytes=(found - sidecars) * meta.feature_dim * np.dtype(meta.dtype).itemsize,
        resumes=PartialStore(job.output).frozen_meta() is not None,
        output=str(output),
        exists=job.output.exists(),
    )
