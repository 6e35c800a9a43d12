"""Lays small gray pictures of two images over each other: is the one a part of the other?

A crop, an image with a border or a caption, a stretched or a mirrored one agrees with its original
to within a thousandth once it lies where it was taken from; another photograph of the same person
never does. At 32 x 32 pixels that takes an exact place: to a tenth of a pixel, and drawn as if it
had been shrunk from the original. So coarse parts of the one are compared with the whole other
first, at 8 x 8 pixels, and the best of them is refined on all pixels (Levenberg-Marquardt).

Levels alone also agree where there is little to see: two ships on two seas. So the slopes are
compared as well: how the levels change from pixel to pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embedkit.utils.parallel import in_single_threads
from embedkit.utils.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float32]

__all__ = ["Distances", "SmallPictures", "overlay_distances"]

_SIDE, _COARSE = 32, 8  # pixels
_SHARES = np.geomspace(0.3, 1, 11)  # of the sides of an image that a part keeps
_LEAST_SIDE = 0.2  # of a part, in sides of the picture
_STEP = 1.0  # of a coarse pixel, between parts
_RATIO, _MOST_SHAPES = np.log(1.1), 12  # between shapes of parts; how many, either way
_STILL_PROMISING = 0.9  # a correlation after the first rounds
_ROUNDS, _FIRST_ROUNDS = 8, 3
# Sizes of the coarse place that are tried in turn, from which coarse correlation on.
_SIZES = ((1.0, 0.8), (1.15, 0.92), (0.87, 0.92))
_FOUND = 0.98  # a correlation: no other size need be tried
_FEWEST_PIXELS = 32  # on which two pictures are compared
_CUBIC = -0.5  # the bicubic filter's free parameter, a
_PAIRS_AT_ONCE, _IMAGES_AT_ONCE = 128, 1024


@dataclass(frozen=True, slots=True)
class SmallPictures:
    """Small pictures of n images.

    Attributes:
        gray: ``(n, 32, 32)`` uint8, each of a whole image.
        shapes: ``(n,)`` float32: width by height of the images themselves.
    """

    gray: NDArray[np.uint8]
    shapes: Floats

    def levels(self, at: Ints, *, flip: bool = False) -> Floats:
        """``(m, 32, 32)`` of some, mirrored left to right if asked."""
        found = self.gray[at].astype(np.float32)
        return found[:, :, ::-1] if flip else found

    def coarse(self) -> Floats:
        """``(2, n, 64)``: of 8 x 8 pixels, as they are and mirrored; see ``_normalised``."""
        out = np.empty((2, len(self.gray), _COARSE**2), np.float32)
        for part in _parts(np.arange(len(self.gray)), _IMAGES_AT_ONCE):
            shrunk = _COARSE_OF_WHOLE @ self.levels(part) @ _COARSE_OF_WHOLE.T
            for way, one in enumerate((shrunk, shrunk[:, :, ::-1])):
                levels = np.asarray(one, np.float32).reshape(len(part), -1)
                out[way, part] = _normalised(levels)
        return out


class Distances(NamedTuple):
    """How far pairs of images are from one being a part of the other, where they lie at their best.

    Attributes:
        levels: ``(P,)`` float32: 1 less the correlation of the levels; 1 where no place is
            promising.
        slopes: ``(P,)`` float32: the same of the differences of neighbouring pixels.
    """

    levels: Floats
    slopes: Floats

    @classmethod
    def full(cls, count: int, value: float) -> Distances:
        """Of so many pairs, all the same."""
        return cls(*(np.full(count, value, np.float32) for _ in cls._fields))

    def put(self, at: Ints, found: Distances) -> None:
        """Sets those of some pairs."""
        for mine, theirs in zip(self, found, strict=True):
            mine[at] = theirs

    def at(self, places: Ints | NDArray[np.bool_]) -> Distances:
        """Those of some pairs."""
        return Distances(self.levels[places], self.slopes[places])


class _Starts(NamedTuple):
    """Where images may lie in others.

    Attributes:
        correlation: ``(m,)`` of the coarse pictures.
        place: ``(m, 4)``: left, top, width and height in pixels of the other one's picture.
    """

    correlation: Floats
    place: Floats

    @classmethod
    def none(cls, count: int) -> _Starts:
        """Of so many, not looked for yet."""
        return cls(np.zeros(count, np.float32), np.zeros((count, 4), np.float32))


def overlay_distances(pictures: SmallPictures, first: Ints, second: Ints) -> Distances:
    """How far pairs of images are from one being a part of the other, mirrored or not.

    Args:
        pictures: The pictures of all.
        first: ``(P,)`` places among them.
        second: ``(P,)``.
    """
    count = len(first)
    outer, inner = np.concatenate([first, second]), np.concatenate([second, first])
    best = Distances.full(count, 1)
    for flip, starts in enumerate(_starts(pictures, outer, inner)):
        is_back = starts.correlation[:count] < starts.correlation[count:]
        at = np.arange(count) + is_back * count
        for size, least in _SIZES:
            place = _scaled(starts.place, size)

            def refine(part: Ints, flip: bool = bool(flip), place: Floats = place) -> Distances:
                below, above = pictures.levels(outer[part]), pictures.levels(inner[part], flip=flip)
                return _Laid.at(above, _moved(below, above, place[part])).distances(below)

            promising = at[(starts.correlation[at] > least) & (best.levels > 1 - _FOUND)]
            for part, found in in_single_threads(refine, _parts(promising, _PAIRS_AT_ONCE)):
                is_better = found.levels < best.levels[part % count]
                best.put(part[is_better] % count, found.at(is_better))
    return best


def _parts(values: Ints, count: int) -> Iterator[Ints]:
    for start in range(0, len(values), count):
        yield values[start : start + count]


def _starts(pictures: SmallPictures, outer: Ints, inner: Ints) -> list[_Starts]:
    """The part of each outer image that looks most like the whole inner one: as it is, mirrored.

    Args:
        pictures: The pictures of all.
        outer: ``(m,)`` places among them.
        inner: ``(m,)``.
    """
    whole = pictures.coarse()
    stretch = np.log(pictures.shapes[inner] / pictures.shapes[outer]) / _RATIO
    shape = np.clip(np.rint(stretch), -_MOST_SHAPES, _MOST_SHAPES).astype(np.int64)
    keys = outer * (2 * _MOST_SHAPES + 1) + shape + _MOST_SHAPES
    order = np.argsort(keys, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1) if len(order) else []
    found = [_Starts.none(len(outer)) for _ in whole]

    def look(group: Ints) -> list[tuple[Floats, Floats]]:
        image = outer[group[0]]
        gray = pictures.gray[image].astype(np.float32)
        parts, places = _coarse_parts(gray, whole[0, image], int(shape[group[0]]))
        out = []
        for way in whole:
            similar = way[inner[group]] @ parts.T
            nearest = similar.argmax(1)
            out.append((similar[np.arange(len(group)), nearest], places[nearest]))
        return out

    with Stage("comparing thumbnails", len(outer), unit="thumbnails") as stage:
        for group, results in in_single_threads(look, groups):
            for one, (correlation, place) in zip(found, results, strict=True):
                one.correlation[group], one.place[group] = correlation, place
            stage.add(len(group))
    return found


def _coarse_parts(gray: Floats, whole: Floats, shape: int) -> tuple[Floats, Floats]:
    """The parts of a picture that have a shape, and the whole: ``(k, 64)``, and their places."""
    grid = _grid(shape)
    parts = np.zeros((len(grid.places), _COARSE, _COARSE), np.float32)
    start = 0
    for rows, columns in zip(grid.rows, grid.columns, strict=True):
        high, wide = len(rows) // _COARSE, len(columns) // _COARSE
        shrunk = (rows @ gray @ columns.T).reshape(high, _COARSE, wide, _COARSE)
        parts[start : start + high * wide].reshape(high, wide, _COARSE, _COARSE)[:] = (
            shrunk.transpose(0, 2, 1, 3)
        )
        start += high * wide
    parts = _normalised(parts.reshape(-1, _COARSE**2))
    parts[-1] = whole
    return parts, grid.places


class _Grid(NamedTuple):
    """Parts of one shape, by their size.

    Attributes:
        rows: ``(8 y, 32)`` each: the rows of 8 x 8 pixels of y parts below each other.
        columns: ``(8 x, 32)`` each: the columns of x parts beside each other.
        places: ``(k, 4)`` of all parts and of the whole: left, top, width, height.
    """

    rows: list[Floats]
    columns: list[Floats]
    places: Floats


@lru_cache(2 * _MOST_SHAPES + 1)
def _grid(shape: int) -> _Grid:
    ratio = float(np.exp(shape * _RATIO))
    grid = _Grid([], [], np.empty((0, 4), np.float32))
    places = []
    for share in _SHARES * _SIDE:
        width, height = min(share, share * ratio), min(share, share / ratio)
        if min(width, height) < _LEAST_SIDE * _SIDE:
            continue
        left, top = (_offsets(size) for size in (width, height))
        grid.rows.append(_shrinking(top, height))
        grid.columns.append(_shrinking(left, width))
        places += [(x, y, width, height) for y in top for x in left]
    places.append((0, 0, _SIDE, _SIDE))
    return grid._replace(places=np.array(places, np.float32))


def _offsets(size: float) -> NDArray[np.float64]:
    """Where parts of a size begin, side by side."""
    return np.linspace(0, _SIDE - size, int(np.ceil((_SIDE - size) / (size / _COARSE * _STEP))) + 1)


def _shrinking(starts: NDArray[np.float64], size: float) -> Floats:
    """``(8 n, 32)``: what shrinks stretches of pixels to 8, by a triangle two of them wide."""
    step = size / _COARSE
    centers = (starts[:, None] + (np.arange(_COARSE) + 0.5) * step - 0.5).reshape(-1, 1)
    weights = np.maximum(1 - np.abs(np.arange(_SIDE) - centers) / max(step, 1), 0)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


_COARSE_OF_WHOLE = _shrinking(np.zeros(1), _SIDE)


def _normalised(rows: Floats) -> Floats:
    """``(…, k)`` less their means, of unit length; even ones are shorter."""
    rows = rows - np.einsum("...k->...", rows)[..., None] / np.float32(rows.shape[-1])
    lengths = np.sqrt(np.einsum("...k,...k->...", rows, rows))
    rows /= np.maximum(lengths, _COARSE)[..., None]
    return rows


def _moved(below: Floats, above: Floats, place: Floats) -> Floats:
    """The places of pictures after each was moved to where it lies best, ``(m, 4)``.

    Args:
        below: ``(m, 32, 32)``.
        above: ``(m, 32, 32)``, laid over parts of these.
        place: ``(m, 4)``: the parts, roughly.
    """
    out, left = place.copy(), np.arange(len(place))
    damping, laid = np.full(len(place), 0.01), _Laid.at(above, place)
    best = laid.correlation(below)
    for number in range(_ROUNDS):
        trial = place + _steps(laid, below, place, damping)
        trial[:, 2:] = np.clip(trial[:, 2:], 0.15 * _SIDE, 1.3 * _SIDE)
        tried = _Laid.at(above, trial)
        found = tried.correlation(below)
        is_better = found > best
        for mine, theirs in zip((place, *laid, best), (trial, *tried, found), strict=True):
            mine[is_better] = theirs[is_better]
        out[left] = place
        damping *= np.where(is_better, 0.3, 10)
        kept = damping < 100
        if number + 1 == _FIRST_ROUNDS:
            kept &= best > _STILL_PROMISING
        if not kept.any():
            break
        below, above, place, best = below[kept], above[kept], place[kept], best[kept]
        damping, left = damping[kept], left[kept]
        laid = _Laid(laid.gray[kept], laid.inside[kept])
    return out


def _scaled(place: Floats, size: float) -> Floats:
    """Places ``(m, 4)`` of another size about the same middle."""
    sides = place[:, 2:] * np.float32(size)
    return np.concatenate([place[:, :2] + (place[:, 2:] - sides) / 2, sides], 1)


class _Laid(NamedTuple):
    """Pictures drawn where they lie in others.

    Attributes:
        gray: ``(m, 32, 32)`` in the pixels of the others.
        inside: ``(m, 32, 32)`` bool: pixels that lie in them wholly.
    """

    gray: Floats
    inside: NDArray[np.bool_]

    @classmethod
    def at(cls, above: Floats, place: Floats) -> _Laid:
        """Draws pictures at ``(m, 4)`` places in others."""
        columns, is_column = _drawing(place[:, 0], place[:, 2])
        rows, is_row = _drawing(place[:, 1], place[:, 3])
        gray = np.asarray(rows @ above @ columns.transpose(0, 2, 1), np.float32)
        return cls(gray, is_row[:, :, None] & is_column[:, None, :])

    def correlation(self, below: Floats) -> Floats:
        """Of the levels, ``(m,)``; less where there is hardly any contrast; 0 of few pixels."""
        count = np.maximum(self.inside.sum((1, 2)), 1)
        sides = []
        for levels in (self.gray, below):
            mean = np.where(self.inside, levels, 0).sum((1, 2)) / count
            sides.append(np.where(self.inside, levels - mean[:, None, None], 0))
        mine, theirs = (np.einsum("nij,nij->n", one, one) for one in sides)
        product = np.einsum("nij,nij->n", *sides)
        found = product / np.sqrt((mine + count) * (theirs + count))
        return np.asarray(np.where(count < _FEWEST_PIXELS, 0, found), np.float32)

    def distances(self, below: Floats) -> Distances:
        """Of the pictures to the others."""
        return Distances(1 - self.correlation(below), 1 - self._slope_correlation(below))

    def _slope_correlation(self, below: Floats) -> Floats:
        """Of the slopes across and down, ``(m,)``; less where there are hardly any."""
        across = self.inside[:, 1:-1, :-2] & self.inside[:, 1:-1, 2:]
        surrounded = across & self.inside[:, :-2, 1:-1] & self.inside[:, 2:, 1:-1]
        sides = []
        for levels in (self.gray, below):
            slopes = (
                levels[:, 1:-1, 2:] - levels[:, 1:-1, :-2],
                levels[:, 2:, 1:-1] - levels[:, :-2, 1:-1],
            )
            sides.append(np.where(surrounded, slopes, 0))
        least = 4 * np.maximum(surrounded.sum((1, 2)), 1)
        mine, theirs = (np.einsum("snij,snij->n", one, one) + least for one in sides)
        return np.asarray(np.einsum("snij,snij->n", *sides) / np.sqrt(mine * theirs), np.float32)


def _drawing(start: Floats, size: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """``(m, 32, 32)``: what draws 32 pixels into a stretch of 32 others, by a bicubic filter."""
    start, size = start[:, None, None], size[:, None, None]
    pixels = np.arange(_SIDE, dtype=np.float32)[None, :, None]
    scale = _SIDE / size
    centers = (pixels + 0.5 - start) * scale - 0.5
    away = np.abs(pixels.transpose(0, 2, 1) - centers) / np.maximum(scale, 1)
    near = ((_CUBIC + 2) * away - (_CUBIC + 3)) * away * away + 1
    far = ((_CUBIC * away - 5 * _CUBIC) * away + 8 * _CUBIC) * away - 4 * _CUBIC
    weights = np.where(away < 1, near, np.where(away < 2, far, np.float32(0)))
    total = weights.sum(-1, keepdims=True)
    weights /= np.where(np.abs(total) > 1e-3, total, 1)
    inside = (pixels > start - 1e-3) & (pixels + 1 < start + size + 1e-3)
    return np.asarray(weights, np.float32), inside[..., 0]


def _steps(laid: _Laid, below: Floats, place: Floats, damping: NDArray[np.float64]) -> Floats:
    """How the places are to move, ``(m, 4)``, at most 2 pixels."""
    count = len(place)
    gray, inside = laid.gray, laid.inside
    across, down = np.gradient(gray, axis=2), np.gradient(gray, axis=1)
    pixels = np.arange(_SIDE, dtype=np.float32) + 0.5
    x = ((pixels - place[:, :1]) / place[:, 2:3])[:, None, :]
    y = ((pixels - place[:, 1:2]) / place[:, 3:])[:, :, None]
    planes = np.stack([-across, -down, -across * x, -down * y, gray, np.ones_like(gray)], 1)
    slopes = (planes * inside[:, None]).reshape(count, planes.shape[1], -1)
    levels = np.where(inside, below, 0).reshape(count, -1, 1)
    matrix = (slopes @ slopes.transpose(0, 2, 1)).astype(np.float64)
    diagonal = np.einsum("nii->ni", matrix)
    diagonal += damping[:, None] * diagonal + 1e-3
    solved = np.linalg.solve(matrix, (slopes @ levels).astype(np.float64))[..., 0]
    contrast = np.where(np.abs(solved[:, 4]) > 0.05, solved[:, 4], 1)
    return np.clip(solved[:, :4] / contrast[:, None], -2, 2).astype(np.float32)
