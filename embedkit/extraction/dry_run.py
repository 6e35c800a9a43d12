"""Previews an extraction: counts files, loads the backbone, estimates size; writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.engines import choose_engine, open_engine
from embedkit.extraction.config import ExtractConfig, RunConfig
from embedkit.extraction.job import prepare
from embedkit.extraction.output import check_url, unlocked, updates
from embedkit.extraction.precision import settled
from embedkit.extraction.source_changes import State
from embedkit.extraction.update import opened_update
from embedkit.sources.part import Part
from embedkit.store.format import SHARD_ROWS
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.progress import reporting
from embedkit.utils.urls import display_name, local_path

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from embedkit.engines import EngineName
    from embedkit.sources.open import Spec
    from embedkit.utils.progress import ProgressCallback

__all__ = ["ExtractPreview", "preview"]


@dataclass(frozen=True, slots=True)
class ExtractPreview:
    """The preview of an extraction.

    Attributes:
        found: Files that the source lists.
        backbone: Its name.
        weights: Where its weights come from.
        licence: Licence of the weights.
        feature_dim: D.
        engine: Engine, device, precision and batch size.
        store_bytes: The embeddings' size, bytes.
        resumes: Whether an interrupted run would be resumed.
        output: The store.
        exists: Whether it exists already.
        added: Of an update: images that the source has and the store has not; else None.
        changed: Of an update: images whose content is another one.
        removed: Of an update: images that the store has and the source has not.
        retried: Of an update: images that failed and would be tried again.
        part_found: Of one part: files of this part.
    """

    found: int
    backbone: str
    weights: str
    licence: str
    feature_dim: int
    engine: str
    store_bytes: int
    resumes: bool
    output: str
    exists: bool
    added: int | None = None
    changed: int | None = None
    removed: int | None = None
    retried: int | None = None
    part_found: int | None = None


@plain_numbers
def preview(
    source: Spec | Sequence[Spec],
    output: str | os.PathLike[str],
    *,
    progress: bool | ProgressCallback = False,
    **keywords: Any,
) -> ExtractPreview:
    """Previews an extraction: lists the source and loads the backbone, but writes nothing.

    Args:
        source: As ``extract``'s.
        output: As ``extract``'s.
        progress: True shows a progress bar; a function is called with each `Progress`.
        **keywords: As ``extract``'s; of those that don't change an embedding only those of an
            update have an effect. ``precision="auto"`` isn't resolved, because that takes a trial
            run.

    Raises:
        SourceError: The source can't be listed.
        BackboneError: The backbone or its weights aren't available.
        TypeError: ``extract`` has no such keyword.
        ValueError: A setting is out of its range.
    """
    names = {field.name for field in fields(RunConfig)}
    part = keywords.get("part")
    keywords = {**keywords, "part": None if part is None else Part.read(part)}
    run = RunConfig(**{k: v for k, v in keywords.items() if k in names})
    others = {k: v for k, v in keywords.items() if k not in names | {"stop"}}
    config = ExtractConfig.of(**others)
    output = local_path(output)
    with reporting(progress):
        check_url(output, run)
        if updates(output, run):
            return _preview_update(source, output, config, run)
        return _preview(source, output, config, run)


def _preview_update(
    source: Spec | Sequence[Spec], output: Path, config: ExtractConfig, run: RunConfig
) -> ExtractPreview:
    with opened_update(source, output, config, run) as update:
        plan, found = update.compare()
        meta, kinds = update.store.meta, found.changes.kinds
        counts = {kind: kinds[kind].count for kind in ("added", "changed", "removed")}
        if update.only_failed:
            counts = dict.fromkeys(counts, 0)
        engine = meta.engine
        return ExtractPreview(
            found=plan.count,
            backbone=meta.backbone,
            weights=meta.weights,
            licence=meta.licence,
            feature_dim=meta.feature_dim,
            engine=f"{engine['name']} on {engine['device']}, {engine['precision']}, batches of "
            f"{engine['batch_size']}",
            store_bytes=plan.count * meta.feature_dim * np.dtype(meta.dtype).itemsize,
            resumes=update.partial.is_begun,
            output=display_name(output),
            exists=True,
            retried=int((found.states == State.FAILED).sum()),
            **counts,
        )


def _preview(
    source: Spec | Sequence[Spec],
    output: Path,
    config: ExtractConfig,
    run: RunConfig,
) -> ExtractPreview:
    choice = choose_engine(config.engine, config.device, config.precision, config.batch_size)
    job = prepare(source, output, config)
    found = sum(1 for _ in job.scan())
    choice = settled(choice, config, run.images_each(found, len(choice.devices)), None)
    # Not compiled, because that takes a minute or more.
    engine: EngineName = "torch" if choice.name == "torch-compiled" else choice.name
    with open_engine(
        job.backbone, engine=engine, device=choice.device, batch_size=choice.batch_size
    ) as ready:
        precision_note = "bf16 or fp32 by trial" if choice.precision == "auto" else choice.precision
        runs = f"{choice.name} on {ready.device}, {precision_note}, batches of {ready.batch_size}"
    partial = unlocked(job.output, run)
    meta = job.meta
    return ExtractPreview(
        found=found,
        backbone=meta.backbone,
        weights=meta.weights,
        licence=meta.licence,
        feature_dim=meta.feature_dim,
        engine=runs,
        store_bytes=found * meta.feature_dim * np.dtype(meta.dtype).itemsize,
        resumes=partial.frozen_meta() is not None,
        output=display_name(output),
        exists=partial.exists(),
        part_found=None if run.part is None else _part_found(found, run.part, run.shard_rows),
    )


def _part_found(found: int, part: Part, shard_rows: int | None) -> int:
    """How many of the files a part has."""
    rows = shard_rows or SHARD_ROWS
    shards = part.shards(-(-found // rows))
    return max(0, min(found, shards.stop * rows) - shards.start * rows)
