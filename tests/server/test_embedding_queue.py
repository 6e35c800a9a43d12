"""Images of many requests share batches; the queue is bounded."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from images import draw_photo, encode

from embedkit.errors import BackboneError, DecodeError
from embedkit.index import Index
from embedkit.retrieval.query_embedder import EmbedderConfig, QueryEmbedder
from embedkit.server.embedding_queue import EmbeddingQueue
from embedkit.server.failure import RequestError
from embedkit.server.metrics import Metrics


class SlowEmbedder:
    """Counts batches and waits for a sign before each; the one that warms up isn't one."""

    def __init__(self, inner, threads=1):
        self._inner, self.threads = inner, threads
        self.go, self.sizes, self._is_warm = threading.Event(), [], False

    batch_size = property(lambda self: self._inner.batch_size)

    def embed_batch(self, records):
        if not self._is_warm:
            self._is_warm = True
            return self._inner.embed_batch(records)
        self.go.wait(60)
        self.sizes.append(len(records))
        return self._inner.embed_batch(records)

    def close(self):
        self._inner.close()


@pytest.fixture
def index(folder):
    with Index.open(folder / "photos.index") as opened:
        yield opened


@pytest.fixture
def slow(index):
    return SlowEmbedder(QueryEmbedder(index, EmbedderConfig()))


def queue_of(index, embedder, size=100):
    queue = EmbeddingQueue(embedder, index.meta, size, Metrics())
    queue.start()
    return queue


def photos(count):
    return [encode(draw_photo(n), "JPEG") for n in range(count)]


def test_waiting_images_fill_batches_and_get_their_own_results(index, slow):
    queue = queue_of(index, slow)
    alone = QueryEmbedder(index, EmbedderConfig())
    try:
        data = photos(9)
        results = [queue.submit(one) for one in data]
        slow.go.set()
        rows = [one.result(60).embeddings[0] for one in results]
    finally:
        queue.close()
    assert max(slow.sizes) == slow.batch_size
    assert len(slow.sizes) <= 4
    with alone:
        assert alone.batch_size == slow.batch_size
        from embedkit.extraction.image_inputs import record_of
        from embedkit.extraction.source_images import policy_of

        for one, row in zip(data, rows, strict=True):
            record = record_of(one, 0, policy_of(index.meta))
            assert np.array_equal(alone.embed_batch([record]).rows.embeddings[0], row)


def test_a_full_queue_refuses_and_goes_on(index, slow):
    queue = queue_of(index, slow, size=5)
    try:
        data, results = photos(1)[0], []
        with pytest.raises(RequestError) as caught:
            results.extend(queue.submit(data) for _ in range(20))
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
        assert len(results) >= 5
        slow.go.set()
        assert all(len(one.result(60)) == 1 for one in results)
        assert len(queue.submit(data).result(60)) == 1
    finally:
        queue.close()


def test_images_whose_clients_left_arent_embedded(index, slow):
    queue = queue_of(index, slow)
    try:
        first = queue.submit(photos(1)[0])
        left = [queue.submit(one) for one in photos(8)]
        assert sum(one.cancel() for one in left) >= 4
        last = queue.submit(photos(1)[0])
        slow.go.set()
        assert len(first.result(60)) == len(last.result(60)) == 1
    finally:
        queue.close()
    assert sum(slow.sizes) <= 6


def test_closing_finishes_what_waits(index, slow):
    queue = queue_of(index, slow)
    results = [queue.submit(one) for one in photos(6)]
    slow.go.set()
    queue.close()
    assert all(one.done() and len(one.result()) == 1 for one in results)
    with pytest.raises(RequestError):
        queue.submit(photos(1)[0])


def test_an_unexpected_error_fails_its_batch_alone(index, slow, monkeypatch):
    queue = queue_of(index, slow)
    slow.go.set()
    try:
        inner = slow.embed_batch
        monkeypatch.setattr(slow, "embed_batch", lambda records: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            queue.submit(photos(1)[0]).result(60)
        monkeypatch.setattr(slow, "embed_batch", inner)
        assert len(queue.submit(photos(1)[0]).result(60)) == 1
        with pytest.raises(DecodeError):
            queue.submit(b"no image").result(60)
    finally:
        queue.close()


def test_without_the_backbone_images_are_refused_with_the_reason(index):
    class Broken:
        threads = 1

        @property
        def batch_size(self):
            raise BackboneError("no weights here")

        def close(self):
            pass

    queue = EmbeddingQueue(Broken(), index.meta, 9, Metrics())
    waiting = queue.submit(photos(1)[0])
    queue.start()
    assert (queue.problem, queue.is_ready) == ("no weights here", False)
    for refused in (waiting.exception(1), None):
        error = refused
        if error is None:
            with pytest.raises(RequestError) as caught:
                queue.submit(b"x")
            error = caught.value
        assert error.status == 503
        assert "no weights here" in error.message
    queue.close()


def test_many_threads_get_all_their_answers(index):
    embedder = SlowEmbedder(QueryEmbedder(index, EmbedderConfig()), threads=4)
    embedder.go.set()
    queue = queue_of(index, embedder, size=1000)
    data = photos(4)
    try:
        with ThreadPoolExecutor(16) as pool:
            rows = list(pool.map(lambda n: queue.submit(data[n % 4]).result(60), range(200)))
    finally:
        queue.close()
    for place in range(4):
        mine = np.stack([row.embeddings[0] for row in rows[place::4]])
        assert (mine == mine[0]).all()
    assert sum(embedder.sizes) == 200
