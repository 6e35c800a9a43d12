"""Checks new images against an index or a store: which known images are they copies of?"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.dedup.candidates.candidate_threshold import candidate_cosine_threshold
from embedkit.dedup.candidates.collect import Candidates, find_candidates
from embedkit.dedup.candidates.exact_join import MAX_PAIRS
from embedkit.dedup.candidates.joins import ExactJoin, WhitenedJoin
from embedkit.dedup.candidates.ranked_pairs import RankedPairs
from embedkit.dedup.candidates.representatives import DedupInput
from embedkit.dedup.config import CANDIDATES_PER_IMAGE, check_scoring
from embedkit.dedup.pairs import PairsInfo
from embedkit.dedup.scoring.calibration import PRECISION, calibration_for
from embedkit.dedup.scoring.features import hamming_distances
from embedkit.dedup.scoring.learn_background import learn_background
from embedkit.dedup.scoring.pixel_model import threshold_for as pixel_threshold
from embedkit.dedup.scoring.scorer import Scorer
from embedkit.dedup.scoring.thumbnail_model import have_thumbnails
from embedkit.dedup.scoring.thumbnail_model import threshold_for as thumbnail_threshold
from embedkit.dedup.verified_search import verify_candidates
from embedkit.errors import IndexFileError, StoreError
from embedkit.extraction.embed_like_store import embed_likewise
from embedkit.extraction.source_images import OriginalImages, hashes_of, policy_of
from embedkit.index import Index
from embedkit.index.manifest import MANIFEST
from embedkit.retrieval.metadata import StoreMetadata
from embedkit.store import EmbeddingStore
from embedkit.store.detect import is_store
from embedkit.tabular import Tabular
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.extras import require_extra
from embedkit.utils.progress import reporting, track

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.candidates.collect import ThresholdJoin
    from embedkit.dedup.pairs import Pairs
    from embedkit.dedup.scoring.background import Background
    from embedkit.dedup.scoring.calibration import Calibration
    from embedkit.types import ImageFailure

    Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Checked", "DuplicateChecker", "Match", "check_duplicates"]

_NEAREST = 50  # of the index, that are scored


@dataclass(frozen=True, slots=True)
class Match:
    """A known image that a new one is a copy of.

    Attributes:
        image: The new image's id.
        id: The known image's id.
        store: The known image's store.
        score: As ``Pairs.score``.
        cosine: Of the embeddings.
        hamming: Differing bits of the perceptual hashes; None where one of them says nothing.
        exact: Whether the contents have the same hash.
        verified: Whether geometric verification confirms it; None if it wasn't run.
        how: How the new image was made from the known one, where verification found it.
    """

    image: str
    id: str
    store: str
    score: float
    cosine: float
    hamming: int | None
    exact: bool
    verified: bool | None
    how: Mapping[str, Any]


@dataclass(frozen=True, slots=True, repr=False)
class Checked(Tabular):
    """The result of checking new images.

    Attributes:
        images: Ids of the new images that could be embedded.
        matches: By new image in order, the best first.
        failures: New images that couldn't be embedded.
        threshold: The least score.
        calibration: Name of the calibration that scored.
    """

    images: tuple[str, ...]
    matches: tuple[Match, ...]
    failures: tuple[ImageFailure, ...]
    threshold: float
    calibration: str

    def _summary(self) -> str:
        known = len({match.image for match in self.matches})
        return f"{known:,} of {len(self.images):,} images are known, {len(self.failures):,} failed"

    def _columns(self) -> dict[str, Any]:
        names = ("image", "id", "store", "score", "cosine", "hamming", "exact", "verified")
        return {name: [getattr(match, name) for match in self.matches] for name in names}


@plain_numbers
def check_duplicates(
    known: str | os.PathLike[str],
    images: Paths,
    *,
    stores: Sequence[str | os.PathLike[str]] | None = None,
    threshold: float | None = None,
    precision: float = PRECISION,
    calibration: Calibration | None = None,
    max_hamming: int = 7,
    verify: bool = False,
    root: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] = "auto",
    device: str = "auto",
    progress: bool | ProgressCallback = False,
) -> Checked:
    """Finds the known images that new images are copies of.

    Of an index, the 50 nearest images of each new one are scored, and those of equal bytes or of a
    near perceptual hash; of a store, all candidates of ``find_pairs``.

    Args:
        known: An index or a store.
        images: An image, folder, list, archive or URL, or several.
        stores: The stores that the index was built of; None takes the ones that it names, or
            ``photos.h5`` beside ``photos.index``.
        threshold: The least score; None takes the calibration's threshold for ``precision``.
        precision: Target share of the matches that are copies.
        calibration: The models that score; None takes the built-in one, or a guess.
        max_hamming: The most bits that perceptual hashes may differ in.
        verify: Whether doubtful pairs are verified geometrically.
        root: The folder that relative ids of known images are relative to; None takes the one
            that their store remembers.
        weights: Backbone weights: ``auto``, or the file that the known images were embedded with.
        device: Where the new images are embedded.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        SourceError: There is no such image, or none.
        IndexFileError: ``known`` is neither an index nor a store, or the index can't be read.
        StoreError: A store can't be read, or is needed and not there.
        BackboneError: The backbone or its weights aren't available.
        StoreMismatchError: The known images were embedded with other weights.
        MissingExtraError: ``verify`` needs OpenCV.
        ValueError: An argument is out of its range.
    """
    check_scoring(threshold, precision, max_hamming)
    if verify:
        require_extra("cv2", "verify", "verification on pixels")
    _refuse_other(Path(known))
    with reporting(progress), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        index, opened = _open(Path(known), stores, stack)
        fresh = folder / "new.h5"
        embed_likewise(opened[0].meta, images, fresh, weights=weights, device=device)
        new = stack.enter_context(EmbeddingStore.open(fresh))
        checker = DuplicateChecker(
            index, opened, threshold=threshold, precision=precision, calibration=calibration,
            max_hamming=max_hamming,
        )  # fmt: skip
        if not verify:
            return checker.check(new)
        readers = [stack.enter_context(_originals(store, root)) for store in opened]
        return checker.check(new, stack.enter_context(_originals(new, None)), readers)


class DuplicateChecker:
    """Finds copies of new images among those of open stores.

    What it needs of the stores is read with the first check, and kept for the next ones.

    Args:
        index: The index of the stores; None compares new images with all rows.
        stores: The stores, which stay open.
        threshold: As ``check_duplicates``'s.
        precision: As ``check_duplicates``'s.
        calibration: As ``check_duplicates``'s.
        max_hamming: As ``check_duplicates``'s.
    """

    def __init__(
        self,
        index: Index | None,
        stores: Sequence[EmbeddingStore],
        *,
        threshold: float | None = None,
        precision: float = PRECISION,
        calibration: Calibration | None = None,
        max_hamming: int = 7,
    ) -> None:
        self._index, self._max_hamming = index, max_hamming
        self._threshold, self._precision = threshold, precision
        self._calibration = calibration_for(stores[0], calibration)
        self._known = [
            _Known(DedupInput(store), rows, self._calibration, index is None)
            for store, rows in zip(stores, _indexed_rows(index, stores), strict=True)
        ]
        self._by_thumbnails = calibration is None and have_thumbnails(
            *(known.input for known in self._known)
        )

    def check(
        self,
        new: EmbeddingStore,
        new_images: OriginalImages | None = None,
        known_images: Sequence[OriginalImages] | None = None,
    ) -> Checked:
        """The known images that new ones are copies of.

        Args:
            new: The new images, embedded with the settings of the stores.
            new_images: Their pixels, for geometric verification; None verifies nothing.
            known_images: The pixels of the images of each store.

        Raises:
            StoreError: A store can't be read.
        """
        is_verified = new_images is not None and known_images is not None
        added = DedupInput(new)
        by_thumbnails = not is_verified and self._by_thumbnails and have_thumbnails(added)
        least = self._least(is_verified=is_verified, by_thumbnails=by_thumbnails)
        name = self._calibration.name + (", thumbnails" if by_thumbnails else "")
        names = list(new.ids)
        matches: list[Match] = []
        for number, known in enumerate(self._known):
            readers = None
            if new_images is not None and known_images is not None:
                readers = new_images, known_images[number]
            scorer = _KnownScorer(
                self._index, added, self._calibration, least, self._max_hamming, readers,
                by_thumbnails,
            )  # fmt: skip
            pairs = scorer.score(known)
            matches += _matches(
                names, known.input.store, pairs.where(pairs.score >= np.float32(least))
            )
        order = {name: place for place, name in enumerate(names)}
        matches.sort(key=lambda match: (order[match.image], -match.score, match.id))
        failures = tuple(new.failures())
        return Checked(tuple(names), tuple(matches), failures, least, name)

    def _least(self, *, is_verified: bool, by_thumbnails: bool) -> float:
        if self._threshold is not None:
            return self._threshold
        if is_verified:
            return pixel_threshold(self._precision)
        if by_thumbnails:
            return thumbnail_threshold(self._precision)
        return self._calibration.threshold_for(self._precision)


@dataclass(frozen=True)
class _Known:
    """A store, and what every check needs of it.

    Attributes:
        input: The store.
        indexed: ``(N,)`` bool, the rows that count.
        calibration: Scores.
        reads_all: Whether all of its rows are compared, not those that an index finds.
    """

    input: DedupInput
    indexed: NDArray[np.bool_]
    calibration: Calibration
    reads_all: bool

    @cached_property
    def background(self) -> Background:
        """What similar images are compared with."""
        # Of an index's store only a sample of the rows is read, of a store all.
        rows = self.input.distinct if self.reads_all else self.input.rows
        return learn_background(rows, self.input, self.calibration)


def _originals(store: EmbeddingStore, root: str | os.PathLike[str] | None) -> OriginalImages:
    """A reader of a store's images."""
    return OriginalImages.by_ids(
        store.ids, store.meta.folders(root), policy_of(store.meta), hashes_of(store)
    )


def _refuse_other(known: Path) -> None:
    """Refuses what is neither an index nor a store, such as a folder of images."""
    if not known.exists():
        raise IndexFileError(f"{known}: there is no such index or store")
    if not (known.is_file() or is_store(known) or (known / MANIFEST).exists()):
        raise IndexFileError(
            f"{known}: neither an index nor a store; 'embedkit extract' makes a store of images"
        )


def _open(
    known: Path, stores: Sequence[str | os.PathLike[str]] | None, stack: ExitStack
) -> tuple[Index | None, Sequence[EmbeddingStore]]:
    """The index, if it is one, and the stores of what is known."""
    if known.is_file() or is_store(known):
        if stores is not None:
            raise ValueError(f"{known}: no index, so that other stores say nothing of it")
        return None, [stack.enter_context(EmbeddingStore.open(known))]
    index = Index.open(known)
    metadata = StoreMetadata.of_index(index, stores)
    if metadata is None:
        raise StoreError(f"{known}: the store that it was built of is needed: stores=FILE")
    return index, stack.enter_context(metadata).stores


@dataclass(frozen=True)
class _KnownScorer:
    """Scores the new images with the images of known stores."""

    index: Index | None
    new: DedupInput
    calibration: Calibration
    threshold: float
    max_hamming: int
    readers: tuple[OriginalImages, OriginalImages] | None
    by_thumbnails: bool

    def score(self, stored: _Known) -> Pairs:
        """Scores all candidate pairs with one store."""
        known, background = stored.input, stored.background
        if self.index is None:
            candidates = self._candidates(known, background)
        else:
            candidates = _indexed_candidates(self.index, self.new, stored, self.max_hamming)
        info = PairsInfo(
            self.threshold, "exact" if self.index is None else "approximate",
            calibration=self.calibration.name, rows=len(self.new), against_rows=len(known),
        )  # fmt: skip
        scorer = Scorer(self.new, known, self.calibration, background, {}, self.by_thumbnails)
        if self.readers is None:
            return scorer.score(candidates, info)
        scored = scorer.score(candidates, info)
        order = np.argsort(-scored.score, kind="stable")
        ranked = RankedPairs(scored.first[order], scored.second[order])
        return verify_candidates(self.new, known, ranked, info, self.readers, backwards=True)

    def _candidates(self, known: DedupInput, background: Background) -> Candidates:
        """The candidates of a search through a whole store."""
        least = candidate_cosine_threshold(
            self.new, known, background, self.calibration, CANDIDATES_PER_IMAGE,
            max_pairs=MAX_PAIRS,
        )  # fmt: skip
        whitened = WhitenedJoin.chosen(
            self.new, known, background, self.calibration, CANDIDATES_PER_IMAGE, MAX_PAIRS
        )
        joins: list[ThresholdJoin] = [ExactJoin(least, MAX_PAIRS), whitened]
        return find_candidates(self.new, known, joins, self.max_hamming)


def _indexed_rows(
    index: Index | None, stores: Sequence[EmbeddingStore]
) -> Sequence[NDArray[np.bool_]]:
    """Which rows of each store count: those that the index has, if the stores are its own."""
    sizes = [len(store) for store in stores]
    found = None if index is None else index.found_rows()
    if found is None or len(found) != sum(sizes):
        return [np.ones(size, np.bool_) for size in sizes]
    return np.split(found, np.cumsum(sizes)[:-1])


def _indexed_candidates(
    index: Index, new: DedupInput, stored: _Known, max_hamming: int
) -> Candidates:
    """Pairs that are near in the index, or have equal content or a near perceptual hash."""
    known, indexed = stored.input, stored.indexed
    parts = [_near(index, new, known.store)]
    for row in track(range(len(new)), "comparing hashes", len(new), unit="images"):
        near = hamming_distances(known.hashes, new.hashes[[row]]) <= max_hamming
        same = np.flatnonzero(indexed & (near | (known.contents == new.contents[row])))
        parts.append(np.column_stack([np.full(len(same), row), same]))
    first, second = np.unique(np.concatenate(parts), axis=0).T.copy()
    return Candidates(first, second, np.zeros(len(first), np.int64))


def _near(index: Index, new: DedupInput, store: EmbeddingStore) -> NDArray[np.int64]:
    """Pairs of a new row and a row of the store that is among its nearest in the index."""
    found = index.search(np.asarray(new.store.embeddings[: len(new)]), _NEAREST)
    known = {name for names in found.ids for name in names}
    rows = {name: store.row_of(name) for name in known if name in store}
    pairs = [(n, rows[name]) for n, names in enumerate(found.ids) for name in names if name in rows]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _matches(names: Sequence[str], store: EmbeddingStore, pairs: Pairs) -> list[Match]:
    known = {row: store.ids[row] for row in dict.fromkeys(pairs.second.tolist())}
    return [
        Match(
            image=names[int(pairs.first[n])],
            id=known[int(pairs.second[n])],
            store=str(store.path),
            score=float(pairs.score[n]),
            cosine=float(pairs.cosine[n]),
            hamming=None if pairs.hamming[n] == 255 else int(pairs.hamming[n]),
            exact=bool(pairs.exact[n]),
            verified=None if pairs.verified[n] < 0 else bool(pairs.verified[n]),
            how=pairs.how[n] if pairs.how else {},
        )
        for n in range(len(pairs))
    ]
