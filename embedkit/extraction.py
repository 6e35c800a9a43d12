"""From a source of images to a store of embeddings: plan, resume, loop, commit."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from embedkit._version import __version__
from embedkit.backbones import load_backbone
from embedkit.decode import DecodePolicy
from embedkit.engines import open_engine, usable_cores
from embedkit.errors import StoreError, StoreMismatchError
from embedkit.loop import ExtractResult, Run
from embedkit.sources import open_source
from embedkit.sources.plan import Plan
from embedkit.store.format import StoreMeta
from embedkit.store.manifest import read_manifest
from embedkit.store.partial import PartialStore
from embedkit.store.store import EmbeddingStore

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from embedkit.backbones import Backbone
    from embedkit.backbones.options import LoadOptions
    from embedkit.loading import Decoder
    from embedkit.loop import Progress
    from embedkit.records import ImageRecord
    from embedkit.sources import Source

__all__ = ["ExtractPreview", "extract", "preview"]

_SHARD_ROWS = 16384  # 64 MiB of float16 rows of 2048
_PROVENANCE = ("plan_hash", "embedkit_version", "weights", "engine")
_log = logging.getLogger("embedkit")


def extract(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    backbone: str | Backbone = "resnet50_swsl",
    engine: Literal["auto", "openvino", "torch"] = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    normalize: bool = False,
    decoder: Decoder = "fast",
    policy: DecodePolicy | None = None,
    labels: str = "auto",
    image_column: str | None = None,
    label_column: str | None = None,
    sharded: bool = False,
    shard_rows: int | None = None,
    overwrite: bool = False,
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    **loading: Unpack[LoadOptions],
) -> ExtractResult:
    """Embeds every image of a source and stores the pooled features.

    An interrupted run goes on where it was when it is started again with the same settings; the
    store that comes of it is the same to the byte. An image that can't be embedded is recorded
    with its reason and stops nothing.

    Args:
        source: A folder, file, list, glob, archive, Parquet file or URL, or several of them.
        output: The store to write; ``<output>.partial/`` holds the work until it is done.
        backbone: A name (``resnet50_swsl``, ``timm:…``), or a loaded backbone.
        engine: What runs the backbone; ``auto`` is OpenVINO on a CPU and PyTorch on CUDA.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        batch_size: Images a batch; None chooses by device, or takes an interrupted run's.
        workers: Threads that decode and embed; None is one a core. Doesn't change the result.
        dtype: Of the stored rows.
        normalize: Whether the stored rows get unit L2 norm (the stored head won't apply then).
        decoder: ``exact`` is Pillow to the bit; ``fast`` takes about half the time for ordinary
            JPEGs, and is at most two of 255 levels away from it.
        policy: Decoding limits and background; None is the default policy.
        labels: ``auto``, ``none``, ``folder``, or a CSV or Parquet file.
        image_column: For Parquet: the column of images; None finds it.
        label_column: For Parquet or a labels file: the column of labels; None finds it.
        sharded: Keep a folder of shards in the place of one file.
        shard_rows: Images a shard; None is 16384, or an interrupted run's.
        overwrite: Replace an existing store, and forget an interrupted run.
        stop: Set it (from a signal handler, another thread) to commit what is done and return.
        on_progress: Called after every batch, from the calling thread.
        **loading: How a backbone given by its name is loaded: weights, seed, pooling, gem_p,
            layers, flip, input_size, preprocessing, on_download (see ``LoadOptions``).

    Returns:
        Counts and rate; ``complete`` is False if ``stop`` was set before the end.

    Raises:
        SourceError: The source can't be listed, or holds no image.
        BackboneError: The backbone or its weights can't be had.
        StoreMismatchError: An interrupted run, or the finished store, was made otherwise.
        StoreLockedError: Another process is writing this store.
        StoreError: The output can't be written, or exists and was made from another source.
        ValueError: An argument is out of its range.
    """
    _check_arguments(dtype, decoder, workers, shard_rows)
    output = Path(output)
    sources = _as_list(source)
    listing = open_source(
        sources, labels=labels, image_column=image_column, label_column=label_column
    )
    loaded = _load(backbone, loading)
    decode = {"decoder": decoder, **(policy or DecodePolicy()).to_config()}
    meta = _describe(loaded, decode, dtype, normalize, sources)
    with PartialStore.locked(output) as partial:
        if overwrite:
            _check_replaceable(output)
            partial.clear()
        frozen = partial.frozen_meta()
        if output.exists() and not overwrite:
            result, plan_hash = _finished_before(output, meta, listing)
            if frozen is not None and frozen.plan_hash == plan_hash:
                partial.discard()  # killed between the store's last step and its tidying up
            return result
        if batch_size is None and frozen is not None:
            batch_size = frozen.engine.get("batch_size")
        with open_engine(loaded, engine=engine, device=device, batch_size=batch_size) as ready:
            meta = replace(meta, engine=ready.to_config())
            plan, meta = _freeze(partial, frozen, meta, listing, shard_rows)
            run = Run(partial, plan, meta, loaded, ready, workers or usable_cores())
            result = run.go(stop, on_progress)
        if result.complete:
            partial.finish(plan.num_shards, sharded=sharded)
        return result


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
    engine: Literal["auto", "openvino", "torch"] = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    normalize: bool = False,
    decoder: Decoder = "fast",
    policy: DecodePolicy | None = None,
    labels: str = "auto",
    image_column: str | None = None,
    label_column: str | None = None,
    **loading: Unpack[LoadOptions],
) -> ExtractPreview:
    """Lists the source and loads the backbone, writes nothing; the arguments are ``extract``'s.

    Raises:
        SourceError: The source can't be listed.
        BackboneError: The backbone or its weights can't be had.
    """
    output = Path(output)
    _check_arguments(dtype, decoder, None, None)
    sources = _as_list(source)
    listing = open_source(
        sources, labels=labels, image_column=image_column, label_column=label_column
    )
    loaded = _load(backbone, loading)
    decode = {"decoder": decoder, **(policy or DecodePolicy()).to_config()}
    meta = _describe(loaded, decode, dtype, normalize, sources)
    with open_engine(loaded, engine=engine, device=device, batch_size=batch_size) as ready:
        pass
    found = sidecars = 0
    for record in _scan(listing, output):
        found += 1
        sidecars += record.sidecar
    return ExtractPreview(
        found=found,
        sidecars=sidecars,
        backbone=meta.backbone,
        weights=meta.weights,
        licence=meta.licence,
        feature_dim=meta.feature_dim,
        engine=f"{ready.name} on {ready.device}, {ready.precision}, batches of {ready.batch_size}",
        store_bytes=(found - sidecars) * meta.feature_dim * np.dtype(meta.dtype).itemsize,
        resumes=PartialStore(output).frozen_meta() is not None,
        output=str(output),
        exists=output.exists(),
    )


def _check_arguments(dtype: str, decoder: str, workers: int | None, shard_rows: int | None) -> None:
    if decoder not in {"fast", "exact"}:
        raise ValueError(f"decoder must be fast or exact, not {decoder!r}")
    if dtype not in {"float16", "float32"}:
        raise ValueError(f"dtype must be float16 or float32, not {dtype!r}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    if shard_rows is not None and shard_rows < 1:
        raise ValueError(f"shard_rows must be at least 1, not {shard_rows}")


def _as_list(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[str | os.PathLike[str]]:
    return [source] if isinstance(source, str | os.PathLike) else list(source)


def _load(backbone: str | Backbone, options: LoadOptions) -> Backbone:
    """Loads a backbone by its name, and tells its licence and what to know of it."""
    if isinstance(backbone, str):
        backbone = load_backbone(backbone, **options)
    elif options:
        raise ValueError(f"{', '.join(options)}: only for a backbone that is given by its name")
    level = logging.WARNING if "-NC" in backbone.licence else logging.INFO
    _log.log(level, "weights of %s: licence %s", backbone.spec.name, backbone.licence)
    if backbone.warning:
        _log.warning("%s", backbone.warning)
    return backbone


def _describe(
    backbone: Backbone,
    decode: Mapping[str, Any],
    dtype: str,
    normalize: bool,
    sources: Sequence[str | os.PathLike[str]],
) -> StoreMeta:
    """What the store will say of itself; the engine and the plan's hash come when it is begun."""
    config = backbone.to_config()
    return StoreMeta(
        backbone=config["backbone"],
        weights_fingerprint=config["weights_fingerprint"],
        weights=config["weights"],
        licence=config["licence"],
        preprocessing=config["preprocessing"],
        pooling={key: config[key] for key in ("pooling", "gem_p", "layers", "flip")},
        feature_dim=backbone.feature_dim,
        dtype=dtype,
        normalized=normalize,
        decode=decode,
        engine={},
        source=[str(source) for source in sources],
        plan_hash="",
        embedkit_version=__version__,
        head_applies=backbone.head_applies and not normalize,
    )


def _freeze(
    partial: PartialStore,
    frozen: StoreMeta | None,
    meta: StoreMeta,
    listing: Source,
    shard_rows: int | None,
) -> tuple[Plan, StoreMeta]:
    """The plan and meta of this run: those that were frozen before, or new ones."""
    plan = Plan.open(partial.folder)
    if frozen is not None and plan is not None:
        differences = frozen.differences(meta, ignore=_PROVENANCE)
        differences |= _engine_differences(frozen, meta)
        if shard_rows not in {None, plan.shard_rows}:
            differences["shard_rows"] = (plan.shard_rows, shard_rows)
        if differences:
            raise StoreMismatchError(str(partial.folder), differences)
        return plan, frozen
    _log.info("listing %s", ", ".join(meta.source))
    records = _scan(listing, partial.output)
    plan = Plan.freeze(records, partial.folder, shard_rows or _SHARD_ROWS)
    meta = replace(meta, plan_hash=plan.digest)
    partial.freeze_meta(meta)
    return plan, meta


def _scan(listing: Source, output: Path) -> Iterator[ImageRecord]:
    """What the source lists, without the store itself where it is written into the source."""
    mine = Path.cwd() / output
    folder = mine.with_name(mine.name + ".partial")
    for record in listing.scan():
        if output.name in record.path:  # quickly, for nearly all
            path = Path.cwd() / record.path
            if mine in {path, path.parent} or folder in {path, path.parent}:
                continue
        yield record


def _check_replaceable(output: Path) -> None:
    """Refuses to replace a folder that is no store."""
    if output.is_dir():
        read_manifest(output)


def _engine_differences(frozen: StoreMeta, meta: StoreMeta) -> dict[str, tuple[object, object]]:
    """An interrupted run must go on with the same arithmetic; the version is told, not held."""
    return {
        f"engine.{key}": (frozen.engine.get(key), meta.engine.get(key))
        for key in ("name", "device", "precision", "batch_size")
        if frozen.engine.get(key) != meta.engine.get(key)
    }


def _finished_before(output: Path, meta: StoreMeta, listing: Source) -> tuple[ExtractResult, str]:
    """The result, and the plan's hash, of a run that was complete already and is this one."""
    with EmbeddingStore.open(output) as store:
        differences = store.meta.differences(meta, ignore=_PROVENANCE)
        if differences:
            raise StoreMismatchError(str(output), differences)
        plan = Plan.draft(_scan(listing, output))
        if plan.digest != store.meta.plan_hash:
            raise StoreError(
                f"{output}: exists, and its source has changed since ({store.counts.found} files "
                f"then, {plan.count + plan.sidecars} now); --overwrite makes it anew, or extract "
                "the new images into another file and merge"
            )
        counts = store.counts
        result = ExtractResult.of(output, counts, complete=True, resumed=counts.found)
        return result, store.meta.plan_hash
