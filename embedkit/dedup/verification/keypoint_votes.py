"""Pairs of images in which keypoints look alike: candidates that embeddings miss.

Of a small crop, or under text and turned colours, an embedding keeps little, but some keypoints are
left. Each keypoint looks for its nearest ones in all images and votes for theirs; of an image's
votes for another only those count that turn, scale and mirror it alike.

Sources: Jegou, Douze, Schmid, "Hamming embedding and weak geometric consistency for large scale
image search" (2008); the search: Andre, Kermarrec, Le Scouarnec, "Quicker ADC" (2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import numpy as np

from embedkit.dedup.verification.batch import IMAGES_KEPT
from embedkit.dedup.verification.keypoints import MIRRORED
from embedkit.utils.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import faiss
    from numpy.typing import NDArray

    from embedkit.dedup.verification.keypoints import Keypoints

    Ints = NDArray[np.int64]
    Rows = NDArray[np.float32]
    Read = Callable[[Sequence[int]], Sequence[Keypoints | None]]

__all__ = ["PAIRS_SORTED", "voted_pairs"]

PAIRS_SORTED = 4096
"""Of more images than are kept, so many pairs at a time come in the order of their images."""

_FEWEST_VOTES, _FEWEST_OF_ONE = 4, 3  # of a pair: both ways; where only one side votes
_SAMPLE = 512  # images that the index is trained on
_DIMENSIONS, _CODES = 64, 32  # of a descriptor once it is projected; parts of 4 bits of its code
_OF_CELL, _FEWEST_CELLS, _MOST_CELLS = 512, 16, 4096  # descriptors; cells of all of them
_TRAINED_ON = 40  # descriptors a cell
_PROBED = 2  # cells
_NEAREST = 9  # keypoints, itself among them
_ALIKE = 0.7  # cosine of two projected descriptors
_IMAGES_AT_ONCE, _KEYPOINTS_AT_ONCE = 256, 65536
_TURN, _OCTAVE = 22.5, 0.5  # of votes that agree: degrees, octaves
_TURNS, _OCTAVES = 16, 32  # bins
# A descriptor and its mirror image are told apart by which side of the keypoint has more contrast:
# 4 x 4 places of 8 orientations, the first axis goes across the keypoint's own orientation.
_SIDE = np.repeat(np.array([1.5, 0.5, -0.5, -1.5], np.float32), 32)


def voted_pairs(read: Read, images: Sequence[int], split: int | None) -> tuple[Ints, Ints]:
    """The pairs of images that keypoints vote for, those of most votes first.

    Args:
        read: Gives the keypoints of images; None of one that can't be read.
        images: Their numbers.
        split: Only pairs of an image with a lower number and one of this or a higher number; None
            is all pairs.

    Returns:
        ``first`` and ``second``, ``(P,)`` each, the first ones being lower.
    """
    sample = images[:: -(-len(images) // _SAMPLE)]
    trained = [one for one in read(sample) if one is not None and len(one.points)]
    index = _Index.trained(trained, len(images))
    if index is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    blocks = []
    for start in track(
        range(0, len(images), _IMAGES_AT_ONCE), "finding keypoints",
        -(-len(images) // _IMAGES_AT_ONCE), unit="blocks",
    ):  # fmt: skip
        numbers = images[start : start + _IMAGES_AT_ONCE]
        blocks.append(index.described(numbers, read(numbers)))
    known = _Described.joined(blocks)
    others = known if split is None else known.where(known.image >= split)
    index.add(others)
    asked = known if split is None else known.where(known.image < split)
    counted = [
        _votes(part, others, *index.nearest(part))
        for part in asked.parts(_KEYPOINTS_AT_ONCE)
    ]  # fmt: skip
    first, second = _most_first(counted, _FEWEST_VOTES if split is None else _FEWEST_OF_ONE)
    return _by_images(first, second) if len(images) > IMAGES_KEPT else (first, second)


@dataclass(frozen=True, slots=True)
class _Described:
    """Keypoints of many images: ``(n,)`` each.

    Attributes:
        image: Its image's number; those of an image are next to each other.
        values: ``(n, 64)`` float16 of unit length.
        mirrored: Whether its mirror image is described.
        turn: As in `Keypoints`, of the keypoint itself.
        octave: As in `Keypoints`.
    """

    image: Ints
    values: NDArray[np.float16]
    mirrored: NDArray[np.bool_]
    turn: Rows
    octave: Rows

    @classmethod
    def joined(cls, blocks: Sequence[Self]) -> Self:
        return cls(
            *(
                np.concatenate([getattr(block, name) for block in blocks])
                for name in ("image", "values", "mirrored", "turn", "octave")
            )
        )

    def where(self, kept: NDArray[np.bool_] | slice) -> _Described:
        return _Described(
            self.image[kept], self.values[kept], self.mirrored[kept], self.turn[kept],
            self.octave[kept],
        )  # fmt: skip

    def parts(self, most: int) -> Iterable[_Described]:
        """At most about ``most`` keypoints each, all of an image in one."""
        starts = np.flatnonzero(np.diff(self.image, prepend=-1))
        cuts = np.unique(np.searchsorted(starts, np.arange(most, len(self.image), most)))
        edges = [0, *starts[cuts[cuts < len(starts)]].tolist(), len(self.image)]
        return (self.where(slice(*edge)) for edge in pairwise(edges) if edge[0] < edge[1])


class _Index:
    """Finds the nearest of many descriptors, about."""

    def __init__(self, mean: Rows, projection: Rows, index: faiss.IndexIVFPQFastScan) -> None:
        self._mean, self._projection, self._index = mean, projection, index

    @classmethod
    def trained(cls, sample: Sequence[Keypoints], images: int) -> Self | None:
        """For so many images; None if the sample has next to no keypoints."""
        import faiss

        found = [_unmirrored(one.descriptors)[0] for one in sample]
        if sum(map(len, found)) < _FEWEST_CELLS * _TRAINED_ON:
            return None
        values = np.concatenate(found).astype(np.float32)
        cells = len(values) * images // (len(sample) * _OF_CELL)
        cells = min(max(cells, _FEWEST_CELLS), _MOST_CELLS, len(values) // _TRAINED_ON)
        random = np.random.default_rng(0)
        values = random.permutation(values)[: cells * _TRAINED_ON]
        mean = values.mean(0)
        # The main directions, mixed so that each part of the code says equally much.
        axes = np.linalg.eigh(np.cov((values - mean).T))[1][:, : -_DIMENSIONS - 1 : -1]
        mixing = np.linalg.qr(random.normal(size=(_DIMENSIONS, _DIMENSIONS)))[0]
        quantizer = faiss.IndexFlatIP(_DIMENSIONS)
        index = faiss.IndexIVFPQFastScan(
            quantizer, _DIMENSIONS, cells, _CODES, 4, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.niter, index.nprobe = 5, _PROBED
        out = cls(mean, np.asarray(axes @ mixing, np.float32), index)
        index.train(out._projected(values))
        return out

    def described(
        self, numbers: Sequence[int], keypoints: Sequence[Keypoints | None]
    ) -> _Described:
        """The keypoints of some images."""
        found = [(n, one) for n, one in zip(numbers, keypoints, strict=True) if one is not None]
        empty = np.empty((0, len(self._mean)), np.uint8)
        values, mirrored = _unmirrored(
            np.concatenate([empty, *(one.descriptors for _, one in found)])
        )
        none = np.empty(0, np.float32)
        return _Described(
            np.repeat(
                np.array([n for n, _ in found], np.int64),
                np.array([len(one.points) for _, one in found], np.int64),
            ),
            self._projected(values.astype(np.float32)).astype(np.float16),
            mirrored,
            np.concatenate([none, *(one.turns for _, one in found)]),
            np.concatenate([none, *(one.octaves for _, one in found)]),
        )

    def add(self, known: _Described) -> None:
        """Adds keypoints, numbered as they come."""
        for part in known.parts(_KEYPOINTS_AT_ONCE):
            self._index.add(part.values.astype(np.float32))

    def nearest(self, asked: _Described) -> tuple[Rows, Ints]:
        """Cosines and numbers of the nearest ones of each, ``(n, 9)``; -1 is none."""
        found: tuple[Rows, Ints] = self._index.search(asked.values.astype(np.float32), _NEAREST)
        return found

    def _projected(self, values: Rows) -> Rows:
        out = (values - self._mean) @ self._projection
        return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9))


def _unmirrored(descriptors: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Descriptors that are the same for a mirrored image, and which of them were mirrored."""
    mirrored = descriptors.astype(np.float32) @ _SIDE < 0
    return np.where(mirrored[:, None], descriptors[:, MIRRORED], descriptors), mirrored


def _votes(
    asked: _Described, others: _Described, cosines: Rows, numbers: Ints
) -> tuple[Ints, Ints, Ints]:
    """For which images keypoints vote: asked image, voted image, votes that agree."""
    voter, place = np.nonzero((cosines > _ALIKE) & (numbers >= 0))
    voted = numbers[voter, place]
    other = asked.image[voter] != others.image[voted]
    voter, voted = voter[other], voted[other]
    most = int(max(asked.image.max(initial=0), others.image.max(initial=0))) + 1
    pair = asked.image[voter] * most + others.image[voted]
    _, at, count = np.unique(pair, return_inverse=True, return_counts=True)
    often = count[at] >= _FEWEST_VOTES // 2
    voter, voted, pair = voter[often], voted[often], pair[often]
    pairs, at = np.unique(pair, return_inverse=True)
    flip = asked.mirrored[voter] != others.mirrored[voted]
    turn = others.turn[voted] - np.where(flip, 180 - asked.turn[voter], asked.turn[voter])
    octave = others.octave[voted] - asked.octave[voter] + _OCTAVES * _OCTAVE / 2
    votes = np.zeros(len(pairs), np.int64)
    for shift in (0.0, 0.5):  # votes at the edge of two bins fall in one of the shifted ones
        for other_shift in (0.0, 0.5):
            turns = np.floor(turn / _TURN + shift).astype(np.int64) % _TURNS
            octaves = np.floor(octave / _OCTAVE + other_shift).clip(0, _OCTAVES - 1)
            key = ((at * 2 + flip) * _TURNS + turns) * _OCTAVES + octaves.astype(np.int64)
            bins, count = np.unique(key, return_counts=True)
            np.maximum.at(votes, bins // (2 * _TURNS * _OCTAVES), count)
    return pairs // most, pairs % most, votes


def _most_first(counted: Sequence[tuple[Ints, Ints, Ints]], fewest: int) -> tuple[Ints, Ints]:
    """The pairs of enough votes, both ways added."""
    none = np.empty(0, np.int64)
    asked, voted, votes = (np.concatenate([none, *column]) for column in zip(*counted, strict=True))
    images = int(max(asked.max(initial=0), voted.max(initial=0))) + 1
    key = np.minimum(asked, voted) * images + np.maximum(asked, voted)
    pairs, at = np.unique(key, return_inverse=True)
    total = np.bincount(at, votes, len(pairs))
    order = np.argsort(-total, kind="stable")
    pairs = pairs[order[total[order] >= fewest]]
    return pairs // images, pairs % images


def _by_images(first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """The pairs, so many at a time in an order in which the next ones have the same images.

    Images of most votes for each other are next to each other: groups that two images join are put
    in a row (single linkage).
    """
    following: dict[int, int] = {}
    head: dict[int, int] = {}  # of the row of an image that is the last of one
    above: dict[int, int] = {}  # a later image of the same row

    def last(image: int) -> int:
        while (later := above.get(image, image)) != image:
            above[image] = above.get(later, later)
            image = later
        return image

    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        left, right = last(one), last(other)
        if left != right:
            following[left] = head.get(right, right)
            head[right] = head.pop(left, left)
            above[left] = right
    place = np.zeros(int(max(first.max(initial=0), second.max(initial=0))) + 1, np.int64)
    count = 0
    for image in head.values():
        at: int | None = image
        while at is not None:
            place[at], count = count, count + 1
            at = following.get(at)
    block = np.arange(len(first)) // PAIRS_SORTED
    order = np.lexsort([np.minimum(place[first], place[second]), block])
    return first[order], second[order]
