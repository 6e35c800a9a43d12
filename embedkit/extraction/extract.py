"""Embeds the images of a source into a store: freeze the plan, resume, embed, commit."""

from __future__ import annotations

import logging
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Unpack

from embedkit.decode.resize import Scaler
from embedkit.engines import choose_engine
from embedkit.errors import StoreError, StoreMismatchError
from embedkit.extraction.checkpoints import FrozenRun
from embedkit.extraction.config import Job, JobOptions, loader_of, prepare
from embedkit.extraction.decode_workers import open_decode_workers
from embedkit.extraction.multi_gpu import MultiGpuRunner
from embedkit.extraction.precision import engine_differences, open_precise
from embedkit.extraction.runner import ExtractResult, Runner
from embedkit.sources.shard_plan import Plan
from embedkit.store.manifest import read_manifest
from embedkit.store.seal import is_sealed
from embedkit.store.store import EmbeddingStore
from embedkit.store.working_dir import PartialStore

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from embedkit.backbones import Backbone
    from embedkit.backbones.load_options import LoadOptions
    from embedkit.decode.image_loader import Decoder
    from embedkit.decode.policy import DecodePolicy
    from embedkit.engines import EngineChoice, EngineName, Precision
    from embedkit.extraction.runner import Progress
    from embedkit.store.format import StoreMeta

__all__ = ["extract"]

_SHARD_ROWS = 16384  # 64 MiB of float16 rows of 2048
_DERIVED = ("plan_hash", "embedkit_version", "weights", "engine", "head_applies")
_Frozen = tuple["StoreMeta", dict[str, str | None]]
_log = logging.getLogger("embedkit")


def extract(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
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
        engine: What runs the backbone; ``auto`` is OpenVINO on a CPU and PyTorch on CUDA;
            ``torch-compiled`` compiles first, which pays for large jobs.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, or several with commas between: a process
            runs on each, on whole shards. ``auto`` takes every GPU, if the backbone is given by
            its name, and the CPU where there is none.
        precision: ``fp32``, ``bf16``, ``int8``, or ``auto``: bf16 where the device computes in it
            natively and it is faithful enough on these images, else fp32. What a precision costs
            is measured on 128 of the images and stored.
        batch_size: Images a batch; None chooses by device, or takes an interrupted run's.
        workers: Threads that decode and embed; None is one a core, and one for each batch that
            may wait for a GPU. Doesn't change the result.
        processes: Decode in processes in the place of threads, which share one interpreter's lock;
            None does so on a GPU where more than 4 cores decode 10,000 images or more. Doesn't
            change the result.
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
        WorkerError: A process of several failed; what all had done is kept.
        StoreError: The output can't be written, or exists and was made from another source.
        ValueError: An argument is out of its range.
    """
    _check_positive(workers=workers, shard_rows=shard_rows)
    options: JobOptions = {
        "dtype": dtype,
        "normalize": normalize,
        "decoder": decoder,
        "policy": policy,
        "labels": labels,
        "image_column": image_column,
        "label_column": label_column,
    }
    choice = choose_engine(engine, device, precision, batch_size)
    if not isinstance(backbone, str):
        choice = _one_device(choice, device)
    job = prepare(source, output, backbone, options, loading)
    output = job.output
    with PartialStore.locked(output) as partial:
        if overwrite:
            _check_replaceable(output)
            partial.clear()
        frozen = partial.frozen_meta()
        if output.exists() and not overwrite:
            result, plan_hash = _finished_before(job, sharded=sharded)
            if frozen is not None and frozen[0].plan_hash == plan_hash:
                partial.discard()  # killed between the store's last step and its tidying up
            return result
        plan, frozen = _plan(partial, frozen, job, shard_rows)
        if frozen is not None:
            choice = _as_begun(choice, frozen[0].engine, batch_size, precision)
        how = _HowToRun(loading, workers, processes, stop, on_progress)
        meta = None if frozen is None else frozen[0]
        result = _embed(partial, job, plan, meta, choice, how)
        if result.complete:
            partial.finish(plan.num_shards, sharded=sharded)
        return result


def _check_positive(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, not {number}")


def _one_device(choice: EngineChoice, device: str) -> EngineChoice:
    """The choice for a loaded backbone, which stays in this process."""
    if len(choice.devices) > 1 and device != "auto":
        raise ValueError("on several devices a backbone must be given by its name")
    return replace(choice, devices=choice.devices[:1])


def _as_begun(
    choice: EngineChoice, engine: Mapping[str, Any], batch_size: int | None, precision: Precision
) -> EngineChoice:
    """The choice with what wasn't asked for taken from the run that is gone on with."""
    return replace(
        choice,
        batch_size=engine["batch_size"] if batch_size is None else choice.batch_size,
        precision=engine["precision"] if precision == "auto" else choice.precision,
    )


def _embed(
    partial: PartialStore,
    job: Job,
    plan: Plan,
    frozen: StoreMeta | None,
    choice: EngineChoice,
    how: _HowToRun,
) -> ExtractResult:
    """Embeds what is missing of a run that begins, or is resumed (``frozen``)."""
    backbone, one_device = job.backbone, len(choice.devices) == 1
    with ExitStack() as stack:
        load = loader_of(job.meta, backbone, stack.enter_context(Scaler(plan.count)))
        decoders = None
        if one_device:  # they start while the engine is opened
            decoders = open_decode_workers(
                load, choice, plan.count, workers=how.workers, processes=how.processes
            )
            stack.enter_context(decoders or nullcontext())
        kept = None if frozen is None else frozen.engine
        engine, described = open_precise(backbone, choice, plan, load, kept)
        stack.enter_context(engine)
        meta = frozen
        if meta is None:
            meta = replace(job.meta, engine=described, plan_hash=plan.digest)
            partial.freeze_meta(meta, job.listed_by)
        elif differences := engine_differences(meta.engine, described):
            raise StoreMismatchError(str(partial.folder), differences)
        run = FrozenRun(partial, plan, meta, backbone.head)
        if one_device:
            runner = Runner(run, load, engine, how.workers, decoders=decoders)
            return runner.go(how.stop, how.on_progress)
    choice = replace(choice, precision=meta.engine["precision"])
    return MultiGpuRunner(
        run, backbone.spec.name, how.loading, choice, how.workers, how.processes
    ).go(how.stop, how.on_progress)


@dataclass(frozen=True, slots=True)
class _HowToRun:
    """What decides how a run goes, but no byte of its result; see ``extract``."""

    loading: LoadOptions
    workers: int | None
    processes: bool | None
    stop: threading.Event | None
    on_progress: Callable[[Progress], None] | None


def _plan(
    partial: PartialStore, frozen: _Frozen | None, job: Job, shard_rows: int | None
) -> tuple[Plan, _Frozen | None]:
    """The plan of the run that is gone on with, or a new one.

    Raises:
        StoreMismatchError: The interrupted run was made otherwise; the engine isn't looked at yet.
    """
    plan = Plan.open(partial.folder)
    if frozen is None or plan is None:
        _log.info("listing %s", ", ".join(job.meta.source))
        return Plan.freeze(job.scan(), partial.folder, shard_rows or _SHARD_ROWS), None
    before, listed_by = frozen
    differences = before.differences(job.meta, ignore=_DERIVED)
    differences |= {
        key: (listed_by.get(key), value)
        for key, value in job.listed_by.items()
        if listed_by.get(key) != value
    }
    if shard_rows not in {None, plan.shard_rows}:
        differences["shard_rows"] = (plan.shard_rows, shard_rows)
    if differences:
        raise StoreMismatchError(str(partial.folder), differences)
    return plan, frozen


def _check_replaceable(output: Path) -> None:
    """Refuses to replace what is no store; a damaged store may be replaced."""
    if output.is_dir():
        read_manifest(output)
    elif output.exists() and not is_sealed(output):
        raise StoreError(f"{output}: exists and is no embedkit store, so it isn't replaced")


def _finished_before(job: Job, *, sharded: bool) -> tuple[ExtractResult, str]:
    """The result, and the plan's hash, of a run that was complete already and is this one."""
    with EmbeddingStore.open(job.output) as store:
        differences = store.meta.differences(job.meta, ignore=_DERIVED)
        if sharded != job.output.is_dir():
            differences["sharded"] = (job.output.is_dir(), sharded)
        if differences:
            raise StoreMismatchError(str(job.output), differences)
        plan = Plan.draft(job.scan())
        if plan.digest != store.meta.plan_hash:
            listed = plan.count + plan.sidecars
            raise StoreError(
                f"{job.output}: exists, and its source or its labels have changed since "
                f"({store.counts.found} files then, {listed} now); overwrite=True replaces it, or "
                "extract the new images into another file and merge"
            )
        counts = store.counts
        result = ExtractResult.of(job.output, counts, complete=True, resumed=counts.found)
        return result, store.meta.plan_hash
