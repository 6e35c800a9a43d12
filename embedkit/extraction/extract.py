"""Embeds the images of a source into a store: freeze the plan, resume, embed, commit."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from embedkit.decode.time_limit import IMAGE_SECONDS
from embedkit.engines import choose_engine
from embedkit.errors import StoreError, StoreMismatchError
from embedkit.extraction.config import ExtractConfig, RunConfig
from embedkit.extraction.finish import finish, nothing_to_do
from embedkit.extraction.job import prepare
from embedkit.extraction.outcome import unlabelled
from embedkit.extraction.output import check_url, updates, working_folder
from embedkit.extraction.precision import settled
from embedkit.extraction.run_plan import Extraction, one_device
from embedkit.extraction.runner import ExtractResult
from embedkit.extraction.source_changes import compare_with_source
from embedkit.extraction.update import update_store
from embedkit.sources.part import Part
from embedkit.sources.shard_plan import Plan
from embedkit.store.format import SHARD_ROWS
from embedkit.store.object_cache import address_of
from embedkit.store.store import EmbeddingStore
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.progress import reporting
from embedkit.utils.timing import timed
from embedkit.utils.urls import local_path, object_url

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from embedkit.backbones import Backbone
    from embedkit.backbones.pooling import Pooling
    from embedkit.decode.image_loader import Decoder
    from embedkit.decode.policy import DecodePolicy
    from embedkit.decode.preprocessing import Preprocessing
    from embedkit.engines import EngineName, Precision
    from embedkit.extraction.job import Job
    from embedkit.sources.open import Spec
    from embedkit.store.format import StoreMeta
    from embedkit.store.working_dir import PartialStore
    from embedkit.utils.progress import Progress

__all__ = ["extract"]

_DERIVED = (
    "plan_hash", "embedkit_version", "weights", "engine", "head_applies", "roots", "labels_from",
    "same_rows_as", "listing", "generation", "part.images", "part.shard_rows",
)  # fmt: skip
_Frozen = tuple["StoreMeta", dict[str, str | None]]
_log = logging.getLogger("embedkit")


@plain_numbers
def extract(
    source: Spec | Sequence[Spec],
    output: str | os.PathLike[str],
    *,
    backbone: str | Backbone = "resnet50_swsl",
    engine: EngineName = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    processes: bool | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    normalize: bool = False,
    decoder: Decoder = "fast",
    policy: DecodePolicy | None = None,
    labels: str = "auto",
    image_column: str | None = None,
    image_root: str | os.PathLike[str] | None = None,
    label_column: str | None = None,
    label_id_column: str | None = None,
    prefix: str | None = None,
    list_folders: bool = False,
    null: bool = False,
    thumbnails: bool = True,
    weights: str | os.PathLike[str] = "auto",
    seed: int = 0,
    pooling: Pooling = "avg",
    gem_p: float = 3.0,
    layers: Sequence[str] = (),
    flip: bool = False,
    input_size: int | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    sharded: bool = False,
    shard_rows: int | None = None,
    overwrite: bool = False,
    check_content: bool = False,
    update: bool = False,
    keep_removed: bool = False,
    retry_failed: bool = False,
    max_read_errors: int = 32,
    image_timeout: float = IMAGE_SECONDS,
    part: str | tuple[int, int] | None = None,
    ray: str | None = None,
    num_gpus: float = 0,
    decode_cpus: int = 0,
    work_dir: str | os.PathLike[str] | None = None,
    stop: threading.Event | None = None,
    progress: bool | Callable[[Progress], None] = False,
) -> ExtractResult:
    """Embeds every image of a source and stores the pooled features.

    An interrupted run resumes when it is started again with the same settings; the resulting store
    is byte-identical to that of an uninterrupted run. An image that can't be embedded is recorded
    as a failure, with the reason, and the run continues.

    Args:
        source: A folder, file, list, glob, archive, Parquet file, URL or ``datasets.Dataset``, or
            several of them.
        output: The store to write; ``<output>.partial/`` holds unfinished work. Or a URL, such as
            ``s3://bucket/emb`` (with ``sharded``) or ``s3://bucket/photos.h5``, where the store
            appears when it is whole; a shard is uploaded as soon as it is.
        backbone: A name (``resnet50_swsl``, ``timm:…``), or a loaded backbone.
        engine: The inference engine. ``auto`` is OpenVINO on a CPU and PyTorch on CUDA;
            ``torch-compiled`` compiles the network first, which ``auto`` does on CUDA from 500,000
            images a GPU on.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, or several, separated by commas: one
            process per device, each embeds whole shards. ``auto`` uses every GPU if the backbone
            is given by name, and the CPU if there is no GPU.
        precision: ``fp32``, ``bf16``, ``int8``, or ``auto``: bf16 if the device supports it
            natively and the embeddings are close enough to fp32, else fp32. The fidelity is
            measured on 128 of the images and stored.
        batch_size: Images per batch; None chooses by device, or keeps an interrupted run's.
        workers: Number of threads that decode and embed; None is one per core, plus one per batch
            that may wait for a GPU. Doesn't change the result.
        processes: Decode in processes instead of threads, which share the interpreter lock (GIL).
            None uses processes for at least 10,000 images, if there are more than 4 cores beside a
            GPU, or more than 32 without.
            Doesn't change the result. An image that crashes a codec, or hangs in it, then costs a
            process and fails; in a thread a crash ends the run.
        dtype: Data type of the stored embeddings.
        normalize: Whether to L2-normalise the embeddings (the stored head then doesn't apply).
        decoder: ``exact`` is bit-identical to Pillow; ``fast`` takes about half the time for
            ordinary JPEGs and differs by at most two of 255 levels.
        policy: Decoding limits and background; None is the default policy.
        labels: ``auto``, ``none``, ``folder``, or a CSV or Parquet file.
        image_column: Column of images in Parquet files and CSV lists; None finds it.
        image_root: Folder that paths in Parquet files are relative to; None looks beside the file,
            in the folder above and in the current folder.
        label_column: Column of labels in Parquet files, CSV lists and labels files; None finds it.
        label_id_column: Column of ids or paths in a labels file; None finds it.
        prefix: ``NAME`` makes the ids begin with ``NAME/``, so that they differ from those of
            another source.
        list_folders: Whether folders that a list names are opened; otherwise they fail.
        null: Whether the entries of lists end in NUL, as those of ``find -print0``; False finds
            out, where it can be told.
        thumbnails: Whether to store a gray picture of each image, 32 x 32 pixels (1 KiB), which
            near-duplicate search compares without the image files.
        weights: For a backbone given by its name, as the next seven: as ``load_backbone``'s.
        seed: As ``load_backbone``'s.
        pooling: As ``load_backbone``'s.
        gem_p: As ``load_backbone``'s.
        layers: As ``load_backbone``'s.
        flip: As ``load_backbone``'s.
        input_size: As ``load_backbone``'s.
        preprocessing: As ``load_backbone``'s.
        sharded: Write a folder of shards instead of one file.
        shard_rows: Images per shard; None is 16384, or the value of an interrupted run.
        overwrite: Replace an existing store, and discard an interrupted run.
        check_content: If the store is finished already: whether to read all images again and
            compare their content, and not only those of another modification time.
        update: Bring a finished store up to date: embed the images that were added or changed and
            those that failed, drop the removed ones, keep all other rows. The settings are those
            of the store; the result equals a new extraction of the source. Without a store, it is
            an ordinary extraction.
        keep_removed: With ``update``: keep the rows of images that the source lacks now.
        retry_failed: Try the images of a finished store that failed again; without ``update``,
            change nothing else.
        max_read_errors: Stop after so many images in a row that the source fails to give, because
            a folder, share or server has gone away; finished work is kept. 0 never stops.
        image_timeout: Seconds that the decoding of an image may take before it fails and the
            others go on; 0 is no limit.
        part: ``"3/8"`` or ``(3, 8)``: embed only the third of eight parts, which are ranges of
            shards of nearly equal size. Eight processes, on any machines, do the eight parts of the
            same source at any time. With ``sharded`` all write into one folder on a common disk,
            and the last one completes the store. Without, each writes a file of its own, and
            `merge` joins them. Both equal the store of one run.
        ray: Let workers on a Ray cluster embed, a shard at a time: ``local`` starts Ray on this
            machine, ``auto`` finds the cluster that it belongs to; or the cluster's address. All
            must see ``source`` and ``output`` under the same path. ``workers`` is then their
            number; None is one per GPU or, without GPUs, one per machine.
        num_gpus: GPUs of each Ray worker, such as 1 or 0.5.
        decode_cpus: CPU cores of the Ray cluster that read and decode for all workers, so that
            machines without a GPU help; 0: each worker decodes on its own machine.
        work_dir: Folder for the unfinished work, if ``output`` is a URL; None is ``unfinished`` in
            embedkit's cache.
        stop: Set this event (from a signal handler or another thread) to save and return early.
        progress: True shows a bar; a function is called with each `Progress`, after every batch,
            from the calling thread.

    Returns:
        Counts and rate; ``complete`` is False if ``stop`` was set before the end. An update gives
        an `UpdateResult`, which also lists what it did.

    Raises:
        SourceError: The source can't be listed, holds no image, or has gone away.
        NothingEmbeddedError: Not one image could be embedded; no store is written.
        BackboneError: The backbone or its weights aren't available.
        StoreMismatchError: An interrupted run, or the finished store, has other settings.
        StoreLockedError: Another process is writing this store.
        WorkerError: A worker process of a multi-GPU run failed, or more than eight images take
            longer than ``image_timeout`` in threads; finished work is kept.
        StoreError: The output can't be written, has the ending of another format, or exists and
            its source has changed: images were added, removed, changed or relabeled.
        ValueError: An argument is out of its range.
    """
    run = RunConfig(
        workers, processes, sharded, shard_rows, overwrite, check_content, update, keep_removed,
        retry_failed, max_read_errors, image_timeout,
        None if part is None else Part.read(part), ray, num_gpus, decode_cpus,
        None if work_dir is None else Path(work_dir),
    )  # fmt: skip
    config = ExtractConfig.of(
        backbone=backbone, engine=engine, device=device, precision=precision,
        batch_size=batch_size, dtype=dtype, normalize=normalize, decoder=decoder, policy=policy,
        labels=labels, image_column=image_column, image_root=image_root,
        label_column=label_column, label_id_column=label_id_column, prefix=prefix,
        list_folders=list_folders, null=null, thumbnails=thumbnails,
        weights=weights, seed=seed, pooling=pooling, gem_p=gem_p, layers=layers, flip=flip,
        input_size=input_size, preprocessing=preprocessing,
    )  # fmt: skip
    output = local_path(output)
    with reporting(progress):
        check_url(output, run)
        if updates(output, run):
            result: ExtractResult = update_store(source, output, config, run, stop)
        else:
            result = _extract(source, output, config, run, stop)
    return replace(result, path=object_url(output) or output)


def _extract(
    source: Spec | Sequence[Spec],
    output: Path,
    config: ExtractConfig,
    run: RunConfig,
    stop: threading.Event | None,
) -> ExtractResult:
    choice = choose_engine(config.engine, config.device, config.precision, config.batch_size)
    if not isinstance(config.backbone, str):
        choice = one_device(choice, config.device)
    job = prepare(source, output, config)
    if job.in_process:
        choice, run = one_device(choice, config.device), replace(run, processes=False)
    _check_ray(job, run)
    job = _with_own_part(job, run)
    with working_folder(job.output, run) as partial:
        if run.overwrite:
            partial.check_replaceable()
            partial.forget()
        exists = partial.exists()
        if not exists and partial.updated_fingerprint():
            partial.clear()  # rows for a store that is gone
        frozen = partial.frozen_meta()
        if exists and not run.overwrite:
            partial.share()
            result, plan_hash = _finished_before(job, run)
            if frozen is not None and frozen[0].plan_hash == plan_hash:
                partial.forget()  # killed between the store's last step and its tidying up
            return result
        plan, frozen = _plan(partial, frozen, job, run.shard_rows)
        meta = None if frozen is None else frozen[0]
        images_each = run.images_each(plan.count, len(choice.devices))
        choice = settled(choice, config, images_each, None if meta is None else meta.engine)
        extraction = Extraction(partial, job, plan, choice, run, part=run.part)
        if not extraction.shards:
            return nothing_to_do(extraction)
        result = extraction.embed(meta, stop)
        if result.complete:
            result = finish(extraction, result)
        return replace(result, unlabelled=unlabelled(plan))


def _with_own_part(job: Job, run: RunConfig) -> Job:
    """The job; its store says which part it holds, if it isn't one folder of all parts."""
    if run.part is None or run.sharded or run.part.of == 1:
        return job
    named = {"number": run.part.number, "of": run.part.of}
    return replace(job, meta=replace(job.meta, part=named))


def _check_ray(job: Job, run: RunConfig) -> None:
    """Refuses what can't be sent to the machines of a Ray cluster."""
    if run.ray is not None and (job.in_process or not isinstance(job.config.backbone, str)):
        raise ValueError("with ray a backbone must be given by its name, and images as files")


def _plan(
    partial: PartialStore, frozen: _Frozen | None, job: Job, shard_rows: int | None
) -> tuple[Plan, _Frozen | None]:
    """The plan of the resumed run, or a new one.

    Raises:
        StoreMismatchError: The interrupted run has other settings (the engine is checked later).
    """
    plan = Plan.open(partial.folder)
    if frozen is None or plan is None:
        _log.info("listing %s", ", ".join(job.meta.source))
        with timed("listed"):
            plan = Plan.freeze(job.scan(), partial.folder, shard_rows or SHARD_ROWS)
        _log.debug("%d files in %d shards", plan.count, plan.num_shards)
        return plan, None
    before, listed_by = frozen
    differences = before.differences(job.meta, ignore=_DERIVED)
    differences |= {
        key: (listed_by.get(key), value)
        for key, value in job.config.listed_by.items()
        if listed_by.get(key) != value
    }
    if shard_rows not in {None, plan.shard_rows}:
        differences["shard_rows"] = (plan.shard_rows, shard_rows)
    if differences:
        raise StoreMismatchError(str(partial.folder), differences)
    return plan, frozen


def _finished_before(job: Job, run: RunConfig) -> tuple[ExtractResult, str]:
    """The result and the plan's hash of an identical run that had already completed."""
    with EmbeddingStore.open(job.output) as store:
        differences = store.meta.differences(job.meta, ignore=_DERIVED)
        if run.sharded != store.path.is_dir():
            differences["sharded"] = (store.path.is_dir(), run.sharded)
        if differences:
            raise StoreMismatchError(store.address, differences)
        with TemporaryDirectory(prefix="embedkit-") as folder:
            shard_rows = store.meta.part.get("shard_rows", SHARD_ROWS)
            plan = Plan.freeze(job.scan(), Path(folder), shard_rows)
            result = ExtractResult.of(
                job.output, store.counts, complete=True, resumed=store.counts.found
            )
            result = replace(result, unlabelled=unlabelled(plan))
            if _is_listed_alike(store, plan) and not run.check_content:
                return result, store.meta.plan_hash
            records = (one for number in _shards_of(store, plan) for one in plan.shard(number))
            found = compare_with_source(store, records, check_content=run.check_content)
        if found.changes:
            raise StoreError(
                f"{store.address}: exists, and its source has changed since: {found.changes}; "
                "update=True brings it up to date, overwrite=True embeds everything anew"
            )
        return result, store.meta.plan_hash


def _is_listed_alike(store: EmbeddingStore, plan: Plan) -> bool:
    """Whether a store at a URL is of this list of images: to compare more, all is downloaded."""
    return address_of(store.path) is not None and store.meta.plan_hash == plan.digest


def _shards_of(store: EmbeddingStore, plan: Plan) -> range:
    """The shards of a plan that a store was made of: all, or those of its part."""
    part = store.meta.part
    whole = range(plan.num_shards)
    return Part(part["number"], part["of"]).shards(plan.num_shards) if part else whole
