"""Reads and decodes images in worker processes, and by a GPU's JPEG engines, to keep it busy.

Threads of one process share the interpreter lock (GIL): on 16 cores they decode about as fast
as on six. Each worker is a single-threaded process that decodes into memory shared with this
process. If an image crashes a worker, or takes it too long, only that image fails.

Where the GPU has JPEG engines that give the CPU's bits, workers only read and check ordinary JPEGs,
and leave them encoded in more shared memory; the engines decode a batch of them at once.
"""

from __future__ import annotations

import logging
import mmap
import os
import queue
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Self

import numpy as np

from embedkit.decode.gpu_jpeg.encoded import GpuJpegError
from embedkit.decode.gpu_jpeg.nvjpeg import open_library
from embedkit.decode.time_limit import TIME_IS_UP, too_slow
from embedkit.errors import WorkerError
from embedkit.extraction.load_images import SetAside, facts_of, outcome_from_json
from embedkit.sources.shard_plan import record_to_json
from embedkit.types import ImageFailure
from embedkit.utils.line_process import CrashedError, LineProcess, NotStartedError
from embedkit.utils.parallel import check_cancelled
from embedkit.utils.threads import usable_cores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.decode.gpu_jpeg.decoder import GpuJpegDecoder
    from embedkit.decode.gpu_jpeg.encoded import EncodedJpeg
    from embedkit.decode.image_loader import ImageLoader
    from embedkit.engines import EngineChoice
    from embedkit.extraction.load_images import Outcome
    from embedkit.types import ImageRecord

__all__ = ["AT_ENGINE", "DecodeWorkers", "open_decode_workers"]

AT_ENGINE = 3
"""Batches that are on their way to a GPU, computed, or on their way back."""

_MODULE = "embedkit.extraction.decode_worker"
_CHUNK = 16  # images per message
_AT_JPEGS = 2  # batches whose JPEGs a GPU decodes
_ATTEMPTS = 3  # attempts before an image that crashes its worker fails
_POLL_SECONDS = 0.25
_ENCODED_BYTES = 2**20  # memory for an image that the GPU decodes; some take less, others more
_FEW_CORES, _FEW_BESIDE_CPU = 4, 32  # up to so many, threads suffice: for a GPU; for the CPU itself
_FEW_IMAGES = 10_000  # up to this many, threads finish before processes have started
_log = logging.getLogger("embedkit")


def open_decode_workers(
    load: ImageLoader,
    choice: EngineChoice,
    images: int,
    *,
    workers: int | None = None,
    processes: bool | None = None,
    isolate: bool = False,
) -> DecodeWorkers | None:
    """Starts decoding processes if they are worthwhile; returns None if threads should decode.

    Args:
        load: How to decode.
        choice: What runs the backbone. On a CPU it takes most of the time of all cores.
        images: Number of images to decode.
        workers: Processes; None is one per core.
        processes: Whether to use processes; None: with many cores and images.
        isolate: Whether an image has stopped the whole process before: None then uses processes
            wherever there can be some.

    Raises:
        ValueError: Processes are requested on a system without ``memfd_create``.
    """
    can = hasattr(os, "memfd_create")  # Linux: anonymous memory, freed with its processes
    if processes and not can:
        raise ValueError("processes=True: decoding in processes works on Linux only")
    count = workers or usable_cores()
    if processes is None:
        few = _FEW_BESIDE_CPU if choice.device == "cpu" else _FEW_CORES
        pays = count > few and images >= _FEW_IMAGES
        processes = can and (pays or isolate)
    if not processes:
        return None
    messages = -(-choice.batch_size // _CHUNK)  # of a batch
    ahead = -(-2 * count // messages)  # batches that keep every process busy
    on_gpu = choice.device != "cpu"
    callers = max(ahead, 2) + AT_ENGINE + on_gpu * _AT_JPEGS
    decoders = DecodeWorkers(load, count, choice.batch_size, callers, images=images)
    if on_gpu and open_library() is not None:  # while they start
        from embedkit.decode.gpu_jpeg.decoder import open_gpu_jpeg_decoder

        decoders.decode_jpegs_by(open_gpu_jpeg_decoder(choice.device, load))
    return decoders


class DecodeWorkers:
    """Processes that read, decode, scale, crop and hash; a context manager.

    Args:
        load: How to decode.
        count: Processes.
        batch_size: Images per batch, at most.
        callers: Threads that call ``load`` at the same time, at most.
        images: Images that will be decoded.

    Attributes:
        callers: As given.

    Raises:
        OSError: There is no memory to share.
        WorkerError: The system starts no process.
    """

    def __init__(
        self, load: ImageLoader, count: int, batch_size: int, callers: int, *, images: int
    ) -> None:
        self.callers = callers
        self._load_image = load
        self._gpu: GpuJpegDecoder | None = None
        side = load.preprocessing.crop
        shape = (callers, batch_size, side, side, 3)
        self._files: list[int] = []
        self._shared = self._new_memory(int(np.prod(shape))).reshape(shape)
        self._encoded = self._new_memory(callers * batch_size * _ENCODED_BYTES)
        memory, encoded = self._files
        config = {
            "memory": memory,
            "encoded": encoded,
            "shape": shape,
            "policy": load.policy.to_config(),
            "preprocessing": load.preprocessing.to_config(),
            "decoder": load.decoder,
            "timeout": load.timeout,
            "images": images // count,
        }
        self._free_slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(callers):
            self._free_slots.put(slot)
        self._idle: queue.SimpleQueue[LineProcess] = queue.SimpleQueue()
        self._workers: list[LineProcess] = []
        for _ in range(count):
            try:
                self._workers.append(LineProcess(_MODULE, config, self._files))
            except NotStartedError as exc:
                self._end()
                raise _cannot_start(exc) from exc
        for worker in self._workers:
            self._idle.put(worker)
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="embedkit-decode")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._end()

    def decode_jpegs_by(self, gpu: GpuJpegDecoder | None) -> None:
        """Leave ordinary JPEGs to a GPU from now on, and close it in the end; None does nothing."""
        self._gpu = gpu

    def _new_memory(self, size: int) -> NDArray[np.uint8]:
        """``(size,)`` bytes that are shared with the processes; only what is used is taken."""
        self._files.append(os.memfd_create("embedkit"))
        os.ftruncate(self._files[-1], size)
        return np.frombuffer(mmap.mmap(self._files[-1], 0), np.uint8)

    def _end(self) -> None:
        for worker in self._workers:
            worker.end()
        for file in self._files:
            os.close(file)
        if self._gpu is not None:
            self._gpu.close()

    def load(self, records: Sequence[ImageRecord], pixels: NDArray[np.uint8]) -> list[Outcome]:
        """As `load_images`; called from several threads.

        Raises:
            WorkerError: A process can't start.
            concurrent.futures.CancelledError: The work of the calling thread was cancelled; the
                processes are ended.
        """
        slot = self._free_slots.get()
        try:
            parts = [
                self._pool.submit(self._load_chunk, slot, start, records[start : start + _CHUNK])
                for start in range(0, len(records), _CHUNK)
            ]
            outcomes = [one for part in parts for one in self._result(part)]
            waiting = {n: one for n, one in enumerate(outcomes) if isinstance(one, SetAside)}
            if len(waiting) < len(records):
                pixels[: len(records)] = self._shared[slot, : len(records)]
            if waiting:
                self._decode_set_aside(waiting, records, pixels, outcomes)
        finally:
            self._free_slots.put(slot)
        return outcomes

    def _decode_set_aside(
        self,
        waiting: dict[int, SetAside],
        records: Sequence[ImageRecord],
        pixels: NDArray[np.uint8],
        outcomes: list[Outcome],
    ) -> None:
        """Decodes what the processes left encoded, each into its place."""
        assert self._gpu is not None
        places, jpegs = list(waiting), [one.jpeg for one in waiting.values()]
        is_all = len(places) == len(records)
        found = pixels[: len(places)] if is_all else np.empty_like(pixels[: len(places)])
        try:
            small = self._gpu(jpegs, self._encoded, found)
        except GpuJpegError as exc:
            _log.debug("%d JPEGs are decoded by the processor instead: %s", len(places), exc)
            small = self._decode_here(jpegs, [records[place].id for place in places], found)
        if not is_all:
            pixels[places] = found
        files = [one.file for one in waiting.values()]
        facts = facts_of(files, found, small, self._load_image.preprocessing.resize)
        for place, one in zip(places, facts, strict=True):
            outcomes[place] = one

    def _decode_here(
        self, jpegs: Sequence[EncodedJpeg], ids: Sequence[str], pixels: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """As the GPU's decoder."""
        small = []
        for place, (jpeg, name) in enumerate(zip(jpegs, ids, strict=True)):
            data = self._encoded[jpeg.offset : jpeg.offset + jpeg.length].tobytes()
            loaded = self._load_image(data, name)
            pixels[place] = loaded.pixels
            small.append(loaded.thumbnail)
        return np.stack(small)

    def _result(self, part: Future[list[Outcome]]) -> list[Outcome]:
        while not part.done():
            try:
                check_cancelled()
            except CancelledError:
                for worker in self._workers:
                    worker.kill()
                raise
            wait([part], _POLL_SECONDS)
        return part.result()

    def _load_chunk(self, slot: int, start: int, records: Sequence[ImageRecord]) -> list[Outcome]:
        try:
            return self._ask(slot, start, records)
        except CrashedError:
            # One of these images crashed the worker; each is retried alone to find it.
            return [
                self._load_alone(slot, start + place, record)
                for place, record in enumerate(records)
            ]

    def _load_alone(self, slot: int, place: int, record: ImageRecord) -> Outcome:
        reason = ""
        for _ in range(_ATTEMPTS):
            try:
                return self._ask(slot, place, [record])[0]
            except CrashedError as exc:
                reason = f"crashes its decoder ({exc})"
                if str(exc) == TIME_IS_UP:
                    reason = too_slow(self._load_image.timeout)
                    break
        nbytes = -1 if record.nbytes is None else record.nbytes
        return ImageFailure(record.id, reason, nbytes)

    def _ask(self, slot: int, start: int, records: Sequence[ImageRecord]) -> list[Outcome]:
        worker = self._idle.get()
        try:
            # Fields, not lines: a name is any text.
            fields = [record_to_json(record) for record in records]
            answer = worker.ask([slot, start, fields, self._gpu is not None])
        except NotStartedError as exc:
            raise _cannot_start(exc) from exc
        finally:
            self._idle.put(worker)
        return [
            outcome_from_json(record.id, encoded)
            for record, encoded in zip(records, answer, strict=True)
        ]


def _cannot_start(reason: NotStartedError) -> WorkerError:
    return WorkerError(
        f"a decoding process could not start ({reason}); decode in threads instead "
        "(processes=False)"
    )
