"""Selects the best images per class, streaming over stores."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embedkit.analysis.classification.class_names import ClassWords
from embedkit.analysis.classification.head import usable_head
from embedkit.analysis.selection.candidates import candidates
from embedkit.analysis.selection.lines import selected_lines
from embedkit.analysis.selection.top_k import BestPerClass, Candidates
from embedkit.errors import StoreError, StoreMismatchError
from embedkit.store import EmbeddingStore
from embedkit.tabular import Tabular
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.parallel import in_order
from embedkit.utils.progress import Stage, reporting
from embedkit.utils.threads import usable_cores
from embedkit.utils.vectors import first_not_finite, widen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.store.reader import ShardFile
    from embedkit.types import Head
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Selection", "select"]

_BLOCK_ROWS = 2048  # 16 MiB of float32 rows of 2048, 8 MiB of scores of 1000 classes


@dataclass(frozen=True, slots=True, repr=False)
class Selection(Tabular):
    """Images that were selected: by class in the requested order, best first.

    Attributes:
        stores: The stores that were searched; rows are numbered consecutively across them.
        head: The classifier.
        asked: The numbers of the requested classes.
        scanned: How many images were scored.
        classes: ``(n,)`` int64 class numbers.
        ranks: ``(n,)`` int32, from 1 in each class.
        rows: ``(n,)`` int64 row numbers.
        scores: ``(n,)`` float32 probabilities.
    """

    stores: tuple[Path, ...]
    head: Head
    asked: tuple[int, ...]
    scanned: int
    classes: NDArray[np.int64]
    ranks: NDArray[np.int32]
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]

    def _summary(self) -> str:
        return f"{self.images:,} of {self.scanned:,} images for {len(self.asked):,} classes"

    def _columns(self) -> dict[str, Any]:
        ids = [""] * len(self.rows)
        for lines in selected_lines(self.stores, self.rows, self.classes):
            for place, name in zip(lines.places.tolist(), lines.ids, strict=True):
                ids[place] = name
        return {
            "id": ids,
            "class": self.classes,
            "class_name": [self.head.class_names[number] for number in self.classes.tolist()],
            "rank": self.ranks,
            "score": self.scores,
        }

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many images each of the ``asked`` classes got."""
        return np.bincount(self.classes, minlength=len(self.head.class_names))[list(self.asked)]

    @property
    def images(self) -> int:
        """How many images serve at least one class."""
        return len(np.unique(self.rows))


class _Block(NamedTuple):
    """Some rows of a shard, and the number of the first one among all."""

    shard: ShardFile
    start: int
    stop: int
    first: int


@plain_numbers
def select(
    stores: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    per_class: int,
    *,
    classes: Sequence[str] | None = None,
    min_score: float | None = None,
    max_classes: int = 10,
    workers: int | None = None,
    progress: bool | ProgressCallback = False,
) -> Selection:
    """Selects for each class the images that the stored head gives the highest probability.

    An image is a candidate for its ``max_classes`` most probable classes; each class keeps its
    ``per_class`` best. Ties go to the lower row, and to the lower class number. Memory
    is bounded by ``per_class`` and the number of classes, whatever the number of images.

    Args:
        stores: One or more stores with a classifier head, embedded with the same settings.
        per_class: K, the maximum number of images per class.
        classes: Identifiers (synsets), names or numbers of the classes to select for; None
            selects for all. The most probable classes of an image are always determined among all
            classes.
        min_score: The minimum probability; None accepts any.
        max_classes: P: an image is a candidate for its P most probable classes only.
        workers: Threads; None uses one per core.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        StoreError: A store can't be read, has no head that applies, or holds a row that isn't
            finite.
        StoreMismatchError: The stores have different embedding settings.
        ValueError: A number is out of its range, there is no such class, or a store is given
            twice.

    Source: Yalniz et al., "Billion-scale semi-supervised learning for image classification",
    arXiv 1905.00546, section 3.2.
    """
    paths = [stores] if isinstance(stores, str | os.PathLike) else list(stores)
    _check(per_class, max_classes, min_score, workers)
    head, total = _survey(paths)
    numbers = _class_numbers(head, classes)
    threshold = -np.inf if min_score is None else np.nextafter(np.float32(min_score), -np.inf)
    # No class can have more images than there are.
    best = BestPerClass(len(numbers), min(per_class, max(total, 1)), float(threshold))
    scorer = _Scorer(head, None if classes is None else numbers, best.thresholds, max_classes)
    with reporting(progress):
        stage = Stage("scoring", total, unit="images")
        for block, found in in_order(scorer, _blocks(paths), workers or usable_cores()):
            best.add(found)
            stage.add(block.stop - block.start)
    return _selection([Path(path) for path in paths], head, numbers, total, best.best())


class _Scorer:
    """Scores a block and gives its candidates; called from several threads at once.

    Thresholds that have risen meanwhile only let too many candidates through.
    """

    def __init__(
        self,
        head: Head,
        columns: NDArray[np.int64] | None,
        thresholds: NDArray[np.float32],
        most: int,
    ) -> None:
        self._head, self._columns, self._most = head, columns, most
        self._thresholds = thresholds
        self._own = threading.local()

    def __call__(self, block: _Block) -> Candidates:
        memory, count = self._memory(block), block.stop - block.start
        block.shard.read(np.arange(block.start, block.stop), memory.rows[:count])
        # The same shape takes the same kernels: copies of an image get the same score.
        memory.rows[count:] = 0
        bad = first_not_finite(memory.rows)
        if bad is not None:
            row = block.start + bad
            raise StoreError(f"{block.shard.path}: the embedding of row {row} isn't finite")
        wide = widen(memory.rows, memory.wide)
        logits = np.matmul(wide, self._head.weight.T, out=memory.logits)[:count]
        found = candidates(logits, self._head.bias, self._thresholds, self._columns, self._most)
        return found._replace(rows=found.rows + block.first)

    def _memory(self, block: _Block) -> _Memory:
        memory: _Memory | None = getattr(self._own, "memory", None)
        if memory is None:
            classes, dim = self._head.weight.shape
            memory = self._own.memory = _Memory(
                np.empty((_BLOCK_ROWS, dim), block.shard.meta.dtype),
                np.empty((_BLOCK_ROWS, dim), np.float32),
                np.empty((_BLOCK_ROWS, classes), np.float32),
            )
        return memory


class _Memory(NamedTuple):
    """A thread's own, filled again by each block: the system clears fresh memory first."""

    rows: NDArray[np.floating]
    wide: NDArray[np.float32]
    logits: NDArray[np.float32]


def _survey(paths: Sequence[str | os.PathLike[str]]) -> tuple[Head, int]:
    """The head that all stores share, and how many rows they have; one is open at a time."""
    meta, head, total = None, None, 0
    seen: set[Path] = set()
    for path in paths:
        if (whole := Path(path).resolve()) in seen:
            raise ValueError(f"{os.fsdecode(path)}: given twice, its images would count twice")
        seen.add(whole)
        with EmbeddingStore.open(path) as store:
            total += len(store)
            if meta is None or head is None:
                meta, head = store.meta, usable_head(store)
            elif differences := meta.differences(store.meta):
                way_out = "give stores that were embedded alike"
                raise StoreMismatchError(str(store.path), differences, way_out=way_out)
    if head is None:
        raise ValueError("no store to select from")
    return head, total


def _blocks(paths: Sequence[str | os.PathLike[str]]) -> Iterator[_Block]:
    """All rows; a shard's rows can be read when it has been closed."""
    first = 0
    for path in paths:
        with EmbeddingStore.open(path) as store:
            for number, entry in enumerate(store.shards):
                for start in range(0, entry.embedded, _BLOCK_ROWS):
                    stop = min(start + _BLOCK_ROWS, entry.embedded)
                    yield _Block(store.shard(number), start, stop, first + start)
                first += entry.embedded


def _check(per_class: int, max_classes: int, min_score: float | None, workers: int | None) -> None:
    for name, value in {"per_class": per_class, "max_classes": max_classes}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    if min_score is not None and not 0 <= min_score <= 1:
        raise ValueError(f"min_score is a probability, from 0 to 1, not {min_score}")


def _class_numbers(head: Head, classes: Sequence[str] | None) -> NDArray[np.int64]:
    """The numbers of the requested classes, without duplicates."""
    if classes is None:
        return np.arange(len(head.class_names))
    if not classes:
        raise ValueError("classes is empty: name some, or give None for all")
    words = ClassWords(head)
    numbers: dict[int, None] = {}
    for word in classes:
        found = words.find(word)
        if len(found) != 1:
            problem = "more than one class is" if found else "no class"
            raise ValueError(
                f"{problem} {word!r}: give a class's identifier, name or number, each by itself"
            )
        numbers[next(iter(found))] = None
    return np.array(list(numbers), np.int64)


def _selection(
    paths: Sequence[Path], head: Head, numbers: NDArray[np.int64], total: int, best: Candidates
) -> Selection:
    counts = np.bincount(best.classes, minlength=len(numbers))
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    ranks = (np.arange(len(best.rows)) - starts + 1).astype(np.int32)
    return Selection(
        tuple(paths),
        head,
        tuple(numbers.tolist()),
        total,
        numbers[best.classes],
        ranks,
        best.rows,
        best.scores,
    )
