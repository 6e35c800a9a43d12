"""Finds images of poor quality by their measures, against thresholds that are stated."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.analysis.quality.duplicates import exact_duplicates, near_duplicates
from embedkit.analysis.quality.measures import measure_images, stored_measures
from embedkit.distributed.cluster import RayCluster
from embedkit.store import EmbeddingStore
from embedkit.store.set_columns import set_columns
from embedkit.tabular import Tabular
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.progress import reporting

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.store import StoreMeta
    from embedkit.types import ImageFailure
    from embedkit.utils.progress import ProgressCallback

__all__ = ["Issue", "QualityReport", "QualityThresholds", "find_quality_issues"]

_SMALLEST = 192  # pixels of the shorter side, to judge sharpness
_MOSTLY = 0.5  # share of images with colour, for a gray one to be odd


@plain_numbers
@dataclass(frozen=True, slots=True)
class QualityThresholds:
    """What counts as an issue. Each is compared as its name says; see ``decode/quality.py``.

    Attributes:
        dark: Mean and standard deviation of luminance, added, are below this (0 to 255).
        bright: Mean less standard deviation of luminance is above this (0 to 255).
        blurry: Sharpness by the variance of luminance is below this: contrast is left, but no
            detail. Images of low information aren't judged, nor those with a side below 192 pixels,
            which are enlarged before they are measured.
        low_information: Entropy is below this (bits, 0 to 8).
        gray: At least this share of pixels is gray, in a store where most images have colour. Dark
            and bright images aren't judged.
        odd_size: The number of pixels is this many times the median, or the median this many times
            the number.
        odd_aspect: The longer side is at least this many times the shorter.
    """

    dark: float = 64.0
    bright: float = 200.0
    blurry: float = 0.02
    low_information: float = 3.0
    gray: float = 0.98
    odd_size: float = 10.0
    odd_aspect: float = 3.0


@dataclass(frozen=True, slots=True)
class Issue:
    """An image of poor quality.

    Attributes:
        kind: ``dark``, ``bright``, ``blurry``, ``low_information``, ``gray``, ``odd_size``,
            ``odd_aspect``, ``exact_duplicate`` or ``near_duplicate``.
        id: The image.
        row: Its row.
        value: What was compared with the threshold; 1 for an exact duplicate, the score for a near
            one.
        other: The image that it duplicates; else empty.
    """

    kind: str
    id: str
    row: int
    value: float
    other: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class QualityReport(Tabular):
    """The quality of a store's images.

    Attributes:
        path: The store.
        meta: Metadata of the store.
        images: Number of images.
        measured: How many of them have measures.
        thresholds: What counted as an issue.
        measures: ``(N,)`` values by name, as the store's columns.
        issues: All issues, by kind, the worst first.
        failures: Images that could not be embedded.
    """

    path: Path
    meta: StoreMeta
    images: int
    measured: int
    thresholds: QualityThresholds
    measures: dict[str, NDArray[Any]]
    issues: tuple[Issue, ...]
    failures: tuple[ImageFailure, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of images per kind of issue, failed ones too."""
        kinds = [*KINDS, "exact_duplicate", "near_duplicate"]
        found = dict.fromkeys(kinds, 0)
        for issue in self.issues:
            found[issue.kind] += 1
        return {**found, "failed": len(self.failures)}

    def of_kind(self, kind: str) -> list[Issue]:
        """The issues of one kind, the worst first."""
        return [issue for issue in self.issues if issue.kind == kind]

    def _summary(self) -> str:
        count = len({issue.row for issue in self.issues})
        return f"{count:,} of {self.images:,} images in {str(self.path)!r} have an issue"

    def _columns(self) -> dict[str, Any]:
        names = ("kind", "id", "value", "other", "row")
        return {name: [getattr(one, name) for one in self.issues] for name in names}


@plain_numbers
def find_quality_issues(
    store: str | os.PathLike[str],
    *,
    thresholds: QualityThresholds | None = None,
    images: Sequence[str | os.PathLike[str]] = (),
    duplicates: str | os.PathLike[str] | None = None,
    write: bool = False,
    ray: str | None = None,
    workers: int | None = None,
    progress: bool | ProgressCallback = False,
) -> QualityReport:
    """Finds dark, bright, blurry and otherwise poor or odd images of a store.

    Extraction measures each image while it decodes it. Stores of older versions have no measures:
    then the images are decoded once more here.

    Args:
        store: A store file or folder.
        thresholds: What counts as an issue; None takes the defaults.
        images: For stores without measures: the sources that the images are of, where these lie
            now. None: ids are taken for paths.
        duplicates: A folder of ``find_duplicates`` whose groups are listed as near-duplicates.
        write: Whether measures that the store lacks, for some rows or all, are put into it, for
            filters and later runs.
        ray: Where images are measured: let workers on a Ray cluster do it; ``local``, ``auto`` or
            an address, as ``extract``'s. All must see the store and the images.
        workers: Ray workers, at most; None is one per machine.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Raises:
        SourceError: The store has no measures, and not one of the images is found.
        StoreError: The store can't be read or written.
        DedupError: ``duplicates`` can't be read, or is of other images.
        WorkerError: There is no Ray cluster, or a worker failed.
        ValueError: An argument is out of its range.
    """
    cluster = RayCluster.of(ray, workers)
    limits = thresholds or QualityThresholds()
    with reporting(progress):
        with EmbeddingStore.open(store) as opened:
            stored = stored_measures(opened)
            # An updated store has rows of older versions, which weren't measured.
            is_whole = stored is not None and not np.isnan(stored["luminance"]).any()
            if stored is None or (write and not is_whole):
                measures = measure_images(opened, images, cluster)
            else:
                measures = stored
            sides = opened.images("width"), opened.images("height")
            issues = [
                Issue(kind, opened.ids[row], row, value)
                for kind, found in _judged(measures, *sides, limits).items()
                for row, value in found
            ]
            issues += [
                Issue("exact_duplicate", opened.ids[row], row, 1.0, opened.ids[first])
                for row, first in exact_duplicates(opened)
            ]
            if duplicates is not None:
                issues += [
                    Issue("near_duplicate", opened.ids[row], row, score, opened.ids[other])
                    for row, other, score in near_duplicates(opened, duplicates)
                ]
            measured = int(np.count_nonzero(~np.isnan(measures["luminance"])))
            report = QualityReport(
                Path(store), opened.meta, len(opened), measured, limits, measures, tuple(issues),
                tuple(opened.failures()),
            )  # fmt: skip
        if write and not is_whole:
            set_columns(store, measures)
        return report


def _judged(
    measures: dict[str, NDArray[Any]],
    width: NDArray[np.int32],
    height: NDArray[np.int32],
    limits: QualityThresholds,
) -> dict[str, list[tuple[int, float]]]:
    """Rows and values per kind of issue, the worst first."""
    mean, deviation, sharpness, entropy, gray = (
        measures[name].astype(np.float64)
        for name in ("luminance", "luminance_std", "sharpness", "entropy", "gray")
    )
    relative = sharpness / np.maximum(deviation**2, 1)
    is_judged = (entropy >= limits.low_information) & (np.minimum(width, height) >= _SMALLEST)
    pixels = width.astype(np.float64) * height
    factor = pixels / np.median(pixels) if len(pixels) else pixels
    longer = (np.maximum(width, height) / np.maximum(np.minimum(width, height), 1)).astype(float)
    with np.errstate(invalid="ignore"):
        has_light = (mean + deviation >= limits.dark) & (mean - deviation <= limits.bright)
        is_gray = (gray >= limits.gray) & has_light
        most_are_colour = np.count_nonzero(is_gray) < _MOSTLY * max(len(gray), 1)
        found = {
            "dark": _below(mean + deviation, limits.dark),
            "bright": _below(deviation - mean, -limits.bright, sign=-1),
            "blurry": _below(np.where(is_judged, relative, np.nan), limits.blurry),
            "low_information": _below(entropy, limits.low_information),
            "gray": _rows(is_gray & most_are_colour, gray, -gray),
            "odd_size": _rows(
                np.maximum(factor, 1 / factor) >= limits.odd_size, factor, -abs(np.log(factor))
            ),
            "odd_aspect": _rows(longer >= limits.odd_aspect, longer, -longer),
        }
    return {kind: found[kind] for kind in KINDS}


KINDS = tuple(asdict(QualityThresholds()))
"""The kinds of issues that have a threshold, in order."""


def _below(
    values: NDArray[np.float64], threshold: float, *, sign: int = 1
) -> list[tuple[int, float]]:
    return _rows(values < threshold, sign * values, values)


def _rows(
    passed: NDArray[np.bool_], values: NDArray[np.floating], order: NDArray[np.floating]
) -> list[tuple[int, float]]:
    rows = np.flatnonzero(passed)
    rows = rows[np.argsort(order[rows], kind="stable")]
    return list(zip(rows.tolist(), values[rows].tolist(), strict=True))
