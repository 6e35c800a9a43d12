"""Gathers images of many requests into the batches of one engine."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import DecodeError, EmbedkitError
from embedkit.extraction.image_inputs import record_of
from embedkit.extraction.source_images import policy_of
from embedkit.server.failure import RequestError
from embedkit.utils.threads import use_one_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedkit.retrieval.query_embedder import QueryEmbedder
    from embedkit.server.metrics import Metrics
    from embedkit.store import RowBlock, StoreMeta

__all__ = ["EmbeddingQueue"]

_WAIT = 0.003  # seconds that a batch waits to be filled
_PIXEL = np.zeros((1, 1, 3), np.uint8)
_FEWEST = 4  # images that are worth a thread of their own


@dataclass(slots=True)
class _Waiting:
    """An image that waits; its result is a row with all facts of the image."""

    data: bytes
    since: float
    result: Future[RowBlock] = field(default_factory=Future)


class EmbeddingQueue:
    """The images that wait for one engine, and the threads that own it.

    Each thread takes a batch, decodes and embeds it, as ``QueryEmbedder`` does. The threads start,
    and the backbone is loaded, with ``start``.

    Args:
        embedder: Embeds; it is closed with the queue.
        meta: How the index's own images were embedded.
        size: Images that may wait.
        metrics: Counts batches and times.
    """

    def __init__(
        self, embedder: QueryEmbedder, meta: StoreMeta, size: int, metrics: Metrics
    ) -> None:
        self._embedder, self._policy, self._size = embedder, policy_of(meta), size
        self._metrics = metrics
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._idle = 0
        self._is_closed = False
        self._problem: str | None = None
        self._threads: list[threading.Thread] = []
        self.is_ready = False

    def start(self) -> None:
        """Loads the backbone and starts the threads; takes seconds.

        If the backbone can't be loaded, images are refused with the reason.
        """
        try:
            self._batch_size = self._embedder.batch_size
            # Loads the libraries that decode, so that the threads can limit these to one thread.
            self._embedder.embed_batch([record_of(_PIXEL, 0, self._policy)])
        except EmbedkitError as exc:
            self._problem = str(exc)
            self._refuse_all()
            return
        for _ in range(self._embedder.threads):
            thread = threading.Thread(target=self._work, name="embedkit-embed", daemon=True)
            self._threads.append(thread)
            thread.start()
        self.is_ready = True

    @property
    def problem(self) -> str | None:
        """Why no image can be embedded; None if they can."""
        return self._problem

    def submit(self, data: bytes) -> Future[RowBlock]:
        """Adds an image.

        Args:
            data: The encoded image.

        Returns:
            One row of embedding and facts, to come; or `DecodeError`.

        Raises:
            RequestError: 503; too many wait, or no image can be embedded.
        """
        one = _Waiting(data, time.perf_counter())
        with self._changed:
            if self._problem is not None:
                raise RequestError(503, f"images can't be embedded here: {self._problem}")
            if self._is_closed or len(self._waiting) >= self._size:
                raise RequestError(
                    503, "too many images are waiting; try again soon", {"Retry-After": "1"}
                )
            self._waiting.append(one)
            self._metrics.queue.set(len(self._waiting))
            self._changed.notify()
        return one.result

    def close(self) -> None:
        """Embeds what waits, ends the threads and closes the engine."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._embedder.close()

    def _refuse_all(self) -> None:
        with self._changed:
            while self._waiting:
                refusal = RequestError(503, f"images can't be embedded here: {self._problem}")
                self._waiting.popleft().result.set_exception(refusal)

    def _work(self) -> None:
        use_one_thread()
        while batch := self._next():
            running = [one for one in batch if one.result.set_running_or_notify_cancel()]
            if running:
                self._embed(running)

    def _next(self) -> list[_Waiting]:
        """The next batch; nothing when the queue is closed."""
        with self._changed:
            self._idle += 1
            try:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if len(self._waiting) < self._batch_size and not self._is_closed:
                    self._changed.wait_for(self._is_full, _WAIT)
                while not self._waiting and not self._is_closed:  # another thread took them
                    self._changed.wait()
                share = -(-len(self._waiting) // self._idle)
                count = min(len(self._waiting), self._batch_size, max(share, _FEWEST))
                batch = [self._waiting.popleft() for _ in range(count)]
                self._metrics.queue.set(len(self._waiting))
                if self._waiting:  # this thread may have slept through another's call
                    self._changed.notify()
                return batch
            finally:
                self._idle -= 1

    def _is_full(self) -> bool:
        return self._is_closed or len(self._waiting) >= self._batch_size

    def _embed(self, batch: Sequence[_Waiting]) -> None:
        start = time.perf_counter()
        self._metrics.batch_size.observe(len(batch))
        for one in batch:
            self._metrics.stage("wait").observe(start - one.since)
        try:
            self._answer(batch)
        except Exception as exc:  # a fault of ours; the requests fail with it, the thread goes on
            for one in batch:
                if not one.result.done():
                    one.result.set_exception(exc)
        self._metrics.stage("embed").observe(time.perf_counter() - start)

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        records = [record_of(one.data, number, self._policy) for number, one in enumerate(batch)]
        part = self._embedder.embed_batch(records)
        results = {record.id: one.result for record, one in zip(records, batch, strict=True)}
        for failure in part.failures:
            results[failure.id].set_exception(DecodeError("the image", failure.reason))
        if part.rows is not None:
            for number, name in enumerate(part.rows.ids):
                results[name.decode()].set_result(part.rows.rows(number, number + 1))
