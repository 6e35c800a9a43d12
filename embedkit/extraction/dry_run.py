"""Previews an extraction: counts files, loads the backbone, estimates size; writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import numpy as np

from embedkit.engines import choose_engine, open_engine
from embedkit.extraction.config import JobOptions, prepare
from embedkit.store.working_dir import PartialStore
from embedkit.utils.arguments import plain_numbers

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from embedkit.backbones import Backbone
    from embedkit.backbones.load_options import LoadOptions
    from embedkit.engines import EngineName, Precision

__all__ = ["ExtractPreview", "preview"]


@dataclass(frozen=True, slots=True)
class ExtractPreview:
    """The preview of an extraction.

    Attributes:
        found: Files that the source lists.
        sidecars: Of these, files that only accompany images, such as captions.
        backbone: Its name.
        weights: Where its weights come from.
        licence: Licence of the weights.
        feature_dim: D.
        engine: Engine, device, precision and batch size.
        store_bytes: The embeddings' size, bytes.
        resumes: Whether an interrupted run would be resumed.
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


@plain_numbers
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
    """Previews an extraction: lists the source and loads the backbone, but writes nothing.

    Args:
        source: As ``extract``'s.
        output: As ``extract``'s.
        backbone: As ``extract``'s.
        engine: As ``extract``'s.
        device: As ``extract``'s.
        precision: As ``extract``'s; ``auto`` isn't resolved, because that takes a trial run.
        batch_size: As ``extract``'s.
        loading: How a backbone given by its name is loaded.
        **options: As ``extract``'s; see ``JobOptions``.

    Raises:
        SourceError: The source can't be listed.
        BackboneError: The backbone or its weights aren't available.
        ValueError: An option is out of its range.
    """
    choice = choose_engine(engine, device, precision, batch_size)
    job = prepare(source, output, backbone, options, loading or {})
    # Not compiled, because that takes a minute or more.
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
