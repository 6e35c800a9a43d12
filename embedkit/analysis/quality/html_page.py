"""A quality report as an HTML gallery: examples of each kind of issue, the worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.extraction.source_images import policy_of
from embedkit.report import Gallery, Picture, Shelf, ShelfRow, write_gallery
from embedkit.report.annotated import annotated
from embedkit.report.thumbnails import thumbnails_if_found
from embedkit.store import EmbeddingStore

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from embedkit.analysis.quality.issues import Issue, QualityReport

__all__ = ["write_quality_page"]

_SIDE = 160  # pixels
_IN_A_ROW = 6
_FAILURES = 200

_TITLES = {
    "dark": ("Dark", "luminance + deviation below {:g} of 255"),
    "bright": ("Bright", "luminance - deviation above {:g} of 255"),
    "blurry": ("Blurry", "variance of the Laplacian below {:g} times that of luminance"),
    "low_information": ("Low information", "entropy below {:g} of 8 bits"),
    "gray": ("Gray among color", "share of gray pixels at least {:g}"),
    "odd_size": ("Odd size", "pixels differ from the median by a factor of {:g} or more"),
    "odd_aspect": ("Odd aspect ratio", "longer side at least {:g} times the shorter"),
    "exact_duplicate": ("Exact duplicates", "the bytes are those of the image beside it"),
    "near_duplicate": ("Near-duplicates", "score as in the duplicates that were given"),
}


def write_quality_page(
    report: QualityReport,
    path: Path,
    *,
    examples: int = 24,
    images: Sequence[str | os.PathLike[str]] = (),
) -> Path:
    """Writes a quality report as one HTML file; images that can't be found have no thumbnail.

    Args:
        report: Result of ``find_quality_issues``.
        path: The file; an existing one is replaced atomically.
        examples: Images per kind of issue.
        images: The sources that the images are of, where these lie now, for the thumbnails. None:
            ids are taken for paths.

    Returns:
        ``path``.

    Raises:
        EmbedkitError: The file can't be written.
    """
    shown = {kind: report.of_kind(kind)[:examples] for kind in _TITLES}
    names = {name for some in shown.values() for one in some for name in (one.id, one.other)}
    with EmbeddingStore.open(report.path) as store:
        content = store.images("content_hash")
        rows = {name: store.row_of(name) for name in sorted(names - {""})}
    hashes = {name: content[row].tobytes() for name, row in rows.items()}
    found = thumbnails_if_found(
        hashes, policy_of(report.meta), _SIDE, images=images, roots=report.meta.folders(),
        hashes=hashes, page=path,
    )  # fmt: skip
    with EmbeddingStore.open(report.path) as store:
        pictures = annotated({name: found.get(name) or Picture(name) for name in rows}, store, rows)
    limits = report.thresholds
    shelves = [
        _shelf(kind, some, report.counts[kind], getattr(limits, kind, 0), pictures)
        for kind, some in shown.items()
        if some
    ]
    counts = ", ".join(
        f"{count:,} {_TITLES[kind][0].lower()}"
        for kind, count in report.counts.items()
        if count and kind in _TITLES
    )
    failed = f"; {len(report.failures):,} files failed" if report.failures else ""
    searched = f"None of the {report.images:,} images of {report.path} passes a threshold."
    gallery = Gallery(
        title=f"Quality of {report.path.name}",
        facts=[
            ("Store", f"{report.path}, {report.images:,} images, {report.measured:,} measured"),
            *((_TITLES[kind][0], _note(kind, getattr(limits, kind, 0))) for kind in _TITLES),
        ],
        shelves=shelves,
        failures=report.failures[:_FAILURES],
        summary=f"{report.images:,} images: {counts or 'no issues'}{failed}",
        empty=None if shelves or report.failures else ("No issues found", searched),
    )
    return write_gallery(path, gallery)


def _note(kind: str, threshold: float) -> str:
    return _TITLES[kind][1].format(threshold)


def _shelf(
    kind: str,
    issues: Sequence[Issue],
    total: int,
    threshold: float,
    pictures: Mapping[str, Picture],
) -> Shelf:
    left = total - len(issues)
    note = f"{total:,} image{'' if total == 1 else 's'}: {_note(kind, threshold)}. The worst first"
    note += f"; {left:,} more are not shown." if left else "."
    if issues[0].other:
        rows = [
            ShelfRow(pictures[one.id], f"{one.value:.3g}", [(pictures[one.other], "the other")])
            for one in issues
        ]
    else:
        rows = []
        for start in range(0, len(issues), _IN_A_ROW):
            first, *others = issues[start : start + _IN_A_ROW]
            remarks = [(pictures[one.id], f"{one.value:.4g}") for one in others]
            rows.append(ShelfRow(pictures[first.id], f"{first.value:.4g}", remarks))
    return Shelf(_TITLES[kind][0], note, rows)
