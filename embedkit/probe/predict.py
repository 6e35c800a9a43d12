"""Applies a saved probe to new images and stores."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.probe.serialization import load_probe
from embedkit.retrieval.queries import as_queries, kind_of_query, open_queries
from embedkit.retrieval.query_embedder import EmbedderConfig, QueryEmbedder
from embedkit.tabular import Tabular
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.engines import EngineName
    from embedkit.probe.model import Probe
    from embedkit.retrieval.queries import Queries, Query
    from embedkit.types import ImageFailure

__all__ = ["PredictedBatch", "predict"]


@dataclass(frozen=True, slots=True, repr=False)
class PredictedBatch(Tabular):
    """A probe's predictions for some images, in order.

    Attributes:
        ids: n ids.
        names: n tuples of k classes or labels, most probable first; for a regression, the
            target's name.
        scores: ``(n, k)`` float32 probabilities or shares of votes, or float64 numbers.
        failures: Images of this batch that can't be embedded.
    """

    ids: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    scores: NDArray[np.floating]
    failures: tuple[ImageFailure, ...] = ()

    def _summary(self) -> str:
        return f"predictions for {len(self.ids):,} images, {len(self.failures):,} failed"

    def _columns(self) -> dict[str, Any]:
        count, k = self.scores.shape
        return {
            "id": [name for name in self.ids for _ in range(k)],
            "rank": [*range(1, k + 1)] * count,
            "name": [name for names in self.names for name in names],
            "score": self.scores.reshape(-1),
        }


@plain_numbers
def predict(
    probe: str | os.PathLike[str] | Probe,
    images: Query | Iterable[Query],
    k: int = 5,
    *,
    weights: str | os.PathLike[str] = "auto",
    engine: EngineName = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
) -> Iterator[PredictedBatch]:
    """Predicts the classes, labels or numbers of images.

    Images are embedded with the backbone, weights, preprocessing and decoding that the probe names;
    the rows of a store are taken as they are. An image that can't be embedded is recorded
    as a failure.

    Args:
        probe: A probe, or its folder.
        images: An image (a path, encoded bytes, a PIL image, an array ``(H, W, 3)`` uint8 in RGB),
            vectors, a folder, list, pattern, archive or URL, a store, or several of them.
        k: How many classes or labels to give for each image; no more than there are.
        weights: Weights for images: ``auto`` (where the probe's are published), or a file.
        engine: ``auto``, ``openvino``, ``torch`` or ``torch-compiled``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        batch_size: Images per batch; None takes the probe's on a CPU, which gives the same bits.
        workers: Number of threads; None is one per core.

    Returns:
        All images in order, batch by batch, embedded lazily.

    Raises:
        StoreError: The probe or a store can't be read.
        StoreMismatchError: A store has other embedding settings than the training store.
        IndexMismatchError: The weights here aren't those that the probe names.
        SourceError: A source can't be opened.
        BackboneError: The backbone or its weights aren't available.
        ValueError: ``k < 1``, or nothing was given.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    opened = load_probe(probe) if isinstance(probe, str | os.PathLike) else probe
    given = as_queries(images)
    if any(kind_of_query(one) == "id" for one in given):
        raise ValueError("id: is for searches; give images or a store")
    config = EmbedderConfig(weights, engine, device, batch_size, workers)
    with ExitStack() as stack:
        embedder = stack.enter_context(QueryEmbedder(opened, config))
        kinds = open_queries(given, opened, embedder, None)
        for one in kinds:
            stack.callback(one.close)
        stack = stack.pop_all()  # now the iterator's to close
    return _batches(opened, stack, kinds, min(k, len(opened.names)))


def _batches(
    probe: Probe, stack: ExitStack, kinds: Sequence[Queries], k: int
) -> Iterator[PredictedBatch]:
    with stack:
        batches = (batch for one in kinds for batch in one.batches())
        for batch in track(batches, "predicting", unit="images", size=lambda batch: len(batch.ids)):
            scores = probe.scores(batch.vectors)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            names = tuple(tuple(probe.names[c] for c in row) for row in best.tolist())
            ordered = np.take_along_axis(scores, best, axis=1)
            yield PredictedBatch(batch.ids, names, ordered, batch.failures)
