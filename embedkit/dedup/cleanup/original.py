"""Finds the original of several copies: the image that looks least like an edit of the others.

Of two images the traces that editing leaves in each show it, and whether one of them is blurred or
enlarged beside the other. Of three and more the original is also the one that most of the others
resemble in place, brightness and colours: each edit changes something else. What an image shows
beyond the others, such as text over it, speaks against it.

The weights are those of a conditional logistic regression; `benchmarks/fit_original_model.py` fits
them on edited copies of photographs that are saved in several qualities.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from embedkit.dedup.cleanup.traces import LUMA, RATES, Traces

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embedkit.dedup.cleanup.keep_policy import Candidate

    Values = NDArray[np.float64]

__all__ = ["MEASURES", "judge", "measure", "with_traces"]

MEASURES = {
    "camera": "a camera's data", "pixels": "more pixels", "even_edge": "no even border or corner",
    "gray": "its colours", "recompressed": "compressed once", "shifted": "compressed once",
    "noisy": "less noise", "dark": "more shades",
    "washed_out": "more shades", "step": "finer compression",
    "enlarged": "not enlarged", "blurred": "finer details", "unlike": "framed like the others",
    "other_level": "as bright as the others", "other_contrast": "contrast like the others",
    "other_colours": "colours like the others", "alone_with": "shows nothing that the others lack",
}  # fmt: skip
"""What is measured, and in words what speaks for the original where it has less of it (of a
camera's data and of pixels: more)."""

# In the order of MEASURES.
_OF_TWO = (-3.16, -1.11, 4.93, 3.19, 0.86, 2.99, 3.37, 5.87, 7.26, 0.5, 2.36, 1.09, 0, 0, 0, 0, 0)
_OF_MANY = (
    -4.52, -0.87, 2.67, 2.94, 1.08, 1.83, 2.96, 2.21, 4.55, 0.25, 2.15, 1.0,
    7.38, 4.84, 5.81, 7.1, 33.17,
)  # fmt: skip
_TELLING = 0.1  # a part of the sum that is worth a word
_OWN = [field.name for field in fields(Traces) if field.name in MEASURES]  # the first of them
_MOST = 512  # images that each is compared with
_AT_ONCE = 1024  # images that are compared with these
_SAME_PLACE = 0.85  # a correlation of thumbnails from which on they lie over each other
_SAME_FRAME = 0.95
_LARGER = 1.08  # ratio of sides from which on an image may be an enlarged one
_COARSE, _FINE, _BEYOND = (0.15, 0.35), (0.55, 0.85), (1.04, 1.35)  # of the smaller one's rates
_USUAL_BLUR = 0.5  # logarithm (base 2) of the power that photographs may lack in fine details
_LEAST_POWER = 0.02  # of a wave, levels squared: what rounding leaves


def judge(images: Sequence[Traces]) -> list[tuple[float, str]]:
    """How much each of several copies looks like an edit of the others, and what speaks for it."""
    if not images:
        return []
    table = measure(images)
    parts = (table - table.mean(axis=0)) * np.array(_OF_TWO if len(images) < 3 else _OF_MANY)
    words = list(MEASURES.values())
    out = []
    for row in parts:
        best = [words[at] for at in np.argsort(row).tolist() if row[at] < -_TELLING]
        out.append((float(row.sum()), ", ".join(list(dict.fromkeys(best))[:3])))
    return out


def with_traces(
    candidates: Sequence[tuple[int, Candidate]],
    hashes: NDArray[np.uint8],
    copies: NDArray[np.int64],
    traces_of: Callable[[int], Traces | None],
) -> list[tuple[int, Candidate]]:
    """The candidates of a group with how much each looks edited; equal bytes look the same.

    Args:
        candidates: Images (their places), and what is known of each.
        hashes: ``(M, 32)``, of the bytes of all images.
        copies: ``(M,)``, the same number for images that are copies: each is judged among these,
            and not among other photographs of the scene.
        traces_of: Reads an image for its traces; None of one that can't be read.
    """
    together: dict[int, list[tuple[int, Candidate]]] = {}
    for image, candidate in candidates:
        together.setdefault(int(copies[image]), []).append((image, candidate))
    return [one for some in together.values() for one in _judged(some, hashes, traces_of)]


def _judged(
    candidates: Sequence[tuple[int, Candidate]],
    hashes: NDArray[np.uint8],
    traces_of: Callable[[int], Traces | None],
) -> Sequence[tuple[int, Candidate]]:
    contents = {image: hashes[image].tobytes() for image, _ in candidates}
    firsts = {contents[image]: image for image, _ in reversed(candidates)}
    if len(firsts) < 2:
        return candidates
    found = {content: traces_of(image) for content, image in firsts.items()}
    traces = {content: one for content, one in found.items() if one is not None}
    judged = dict(zip(traces, judge(list(traces.values())), strict=True))
    unknown = (float("inf"), "")
    return [
        (image, replace(one, edited=edited, traces=words))
        for image, one in candidates
        for edited, words in [judged.get(contents[image], unknown)]
    ]


def measure(images: Sequence[Traces]) -> Values:
    """What the weights are for: ``(n, 17)``, in the order of `MEASURES`."""
    own = [[getattr(image, name) for name in _OWN] for image in images]
    chosen = np.linspace(0, len(images) - 1, min(len(images), _MOST)).astype(int)
    others = _Appearance.of([images[at] for at in chosen])
    usual = _Usual.of(others)
    relative = [
        _among(_Appearance.of(images[at : at + _AT_ONCE]), others, usual)
        for at in range(0, len(images), _AT_ONCE)
    ]
    return np.column_stack([np.array(own, np.float64), np.concatenate(relative)])


@dataclass(frozen=True, slots=True)
class _Appearance:
    """Of n images what is compared with others.

    Attributes:
        level: ``(n,)`` mean luma.
        contrast: ``(n,)`` its standard deviation.
        colours: ``(n, 3)`` mean distance of each channel from the luma.
        plain: ``(n, p)`` luma of thumbnails, of equal brightness and contrast.
        unit: ``(n, p)`` the same, of unit length.
        pixels: ``(n,)`` logarithms (base 2) of the pixels.
        powers: ``(n, 51)`` cumulative power of waves up to a rate, raised for photographs to have
            much the same at all rates.
    """

    level: Values
    contrast: Values
    colours: Values
    plain: Values
    unit: Values
    pixels: Values
    powers: Values

    @classmethod
    def of(cls, images: Sequence[Traces]) -> Self:
        small = np.array([image.thumbnail for image in images], np.float64)
        small = small.reshape(len(images), -1, 3)
        luma = small @ LUMA
        level, contrast = luma.mean(axis=1), luma.std(axis=1)
        plain = (luma - level[:, None]) / (contrast[:, None] + 1)
        power = (np.array([image.spectrum for image in images]) + _LEAST_POWER) * RATES**2
        return cls(
            level,
            contrast,
            small.mean(axis=1) - level[:, None],
            plain,
            plain / (np.linalg.norm(plain, axis=1, keepdims=True) + 1e-6),
            np.array([image.pixels for image in images]),
            np.pad(np.cumsum(power, axis=1), ((0, 0), (1, 0))),
        )


@dataclass(frozen=True, slots=True)
class _Usual:
    """What most of a group's images show: those that lie over each other.

    Attributes:
        centre: ``(p,)`` the thumbnail of one of these images, of unit length.
        median: ``(p,)`` of their thumbnails; None if they are fewer than 3.
        most: How much one of them differs from it at most.
    """

    centre: Values
    median: Values | None
    most: float

    @classmethod
    def of(cls, others: _Appearance) -> Self:
        alike = others.unit @ others.unit.T
        at = int((alike > _SAME_PLACE).sum(axis=0).argmax())
        centre, over = others.unit[at], others.plain[alike[:, at] > _SAME_PLACE]
        if len(over) < 3:
            return cls(centre, None, 0.0)
        median = np.median(over, axis=0)
        return cls(centre, median, float(np.sqrt(((over - median) ** 2).mean(axis=1)).max()))

    def beyond(self, images: _Appearance) -> Values:
        """How much each image differs from the median; elsewhere as much as any of them."""
        if self.median is None:
            return np.zeros(len(images.level))
        differs = np.sqrt(((images.plain - self.median) ** 2).mean(axis=1))
        is_over = images.unit @ self.centre > _SAME_PLACE
        return np.where(is_over, differs, self.most)


def _among(images: _Appearance, others: _Appearance, usual: _Usual) -> Values:
    """How each image differs from the others: ``(n, 7)``."""
    alike = np.maximum(images.unit @ others.unit.T, 0)
    apart = [
        1 - alike**2,
        np.abs(_ratio(images.level, others.level, 8)),
        np.abs(_ratio(images.contrast, others.contrast, 4)),
        np.linalg.norm(images.colours[:, None] - others.colours, axis=2) / 40,
    ]
    # An image is one of the others: its distance to itself, nothing, is divided out.
    share = len(others.level) / max(len(others.level) - 1, 1)
    means = [np.minimum(each, 1).mean(axis=1) * share for each in apart]
    lacks = [_enlarged(images, others, alike), _blurred(images, others, alike)]
    return np.column_stack([*lacks, *means, usual.beyond(images)])


def _ratio(some: Values, others: Values, least: float) -> Values:
    """Logarithms (base 2) of the ratios of all values, raised by the least that counts."""
    return np.subtract.outer(np.log2(some + least), np.log2(others + least))


def _enlarged(images: _Appearance, others: _Appearance, alike: Values) -> Values:
    """How much power each image lacks beyond the finest details of a smaller one, a logarithm.

    An image that was enlarged shows hardly anything that the smaller one hasn't room for.
    """
    finest = _finest(images, others)
    fine, beyond = (_mean_power(images, finest, *band) for band in (_FINE, _BEYOND))
    is_larger = (finest < len(RATES) / _LARGER) & (alike > _SAME_FRAME)
    return np.asarray(_log_ratio(fine, beyond, is_larger).max(axis=1).clip(min=0))


def _blurred(images: _Appearance, others: _Appearance, alike: Values) -> Values:
    """How much more blurred each image is than another one, at the size of the smaller one.

    A camera's large photograph may be softer than its small copy, pixel by pixel.
    """
    is_known = alike > _SAME_FRAME
    mine = _softness(images, _finest(images, others), is_known)
    theirs = _softness(others, _finest(others, images), is_known.T).T
    return np.asarray((mine - theirs).max(axis=1).clip(min=0))


def _softness(images: _Appearance, finest: Values, is_known: NDArray[np.bool_]) -> Values:
    """How much power an image lacks in details that are fine in the smaller one of each pair."""
    coarse, fine = (_mean_power(images, finest, *band) for band in (_COARSE, _FINE))
    return np.asarray((_log_ratio(coarse, fine, is_known) - _USUAL_BLUR).clip(min=0))


def _finest(images: _Appearance, others: _Appearance) -> Values:
    """Which of its rates is the finest one that the smaller image of each pair has."""
    smaller = np.minimum(np.subtract.outer(others.pixels, images.pixels).T, 0)
    return np.asarray(len(RATES) * 2 ** (smaller / 2))


def _mean_power(images: _Appearance, finest: Values, low: float, high: float) -> Values:
    """The mean power of each image in a band of its rates; 0 where it is empty."""
    first, last = (np.clip(np.rint(finest * at), 0, len(RATES)).astype(int) for at in (low, high))
    sums = (np.take_along_axis(images.powers, place, axis=1) for place in (last, first))
    return np.asarray(np.subtract(*sums) / np.maximum(last - first, 1))


def _log_ratio(some: Values, others: Values, is_known: NDArray[np.bool_]) -> Values:
    """Logarithms (base 2) of ratios; 0 where they aren't known."""
    is_known = is_known & (some > 0) & (others > 0)
    return np.asarray(np.log2(np.divide(some, others, out=np.ones_like(some), where=is_known)))
