"""Writes a quality report to a folder: tables of measures and issues, a summary, a page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.analysis.quality.html_page import write_quality_page
from embedkit.analysis.quality.measures import MEASURES
from embedkit.errors import StoreError
from embedkit.store import EmbeddingStore
from embedkit.utils.arguments import plain_numbers
from embedkit.utils.atomic_write import atomic_file, commit_bytes
from embedkit.utils.json import finite
from embedkit.utils.progress import Stage, reporting
from embedkit.utils.table_writers import Column, open_table

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embedkit.analysis.quality.issues import QualityReport
    from embedkit.utils.progress import ProgressCallback

__all__ = ["check_quality_output", "summary_of", "write_quality"]

_ISSUES, _IMAGES, _SUMMARY, _PAGE = "issues.csv", "images.parquet", "summary.json", "report.html"
_NAMES = {_ISSUES, _IMAGES, _SUMMARY, _PAGE}
_ISSUE_COLUMNS = (
    Column("kind", "string"),
    Column("rank", "int32"),
    Column("id", "string"),
    Column("value", "float64"),
    Column("other", "string"),
    Column("row", "int64"),
)
_PIECE = 65536  # rows


@plain_numbers
def write_quality(
    report: QualityReport,
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    examples: int = 24,
    images: Sequence[str | os.PathLike[str]] = (),
    progress: bool | ProgressCallback = False,
) -> Path:
    """Writes ``issues.csv``, ``images.parquet``, ``summary.json`` and ``report.html``.

    Args:
        report: Result of ``find_quality_issues``.
        output: The folder; made if it isn't there.
        overwrite: Replace the files of an older report.
        examples: Images per kind of issue on the page.
        images: The sources that the images are of, where these lie now, for the thumbnails. None:
            ids are taken for paths.
        progress: True shows a progress bar; a function is called with each `Progress`.

    Returns:
        ``output``.

    Raises:
        StoreError: ``output`` holds other files, or a report and ``overwrite`` isn't set; or
            something can't be read or written.
    """
    folder = Path(output)
    check_quality_output(folder, overwrite=overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    with reporting(progress):
        with Stage("writing"):
            _write_issues(report, folder / _ISSUES)
            _write_images(report, folder / _IMAGES)
            summary = json.dumps(finite(summary_of(report)), indent=2)
            commit_bytes(folder / _SUMMARY, summary.encode())
        write_quality_page(report, folder / _PAGE, examples=examples, images=images)
    return folder


def _write_issues(report: QualityReport, path: Path) -> None:
    with atomic_file(path) as file, open_table(".csv", file, _ISSUE_COLUMNS) as table:
        for kind in report.counts:
            mine = report.of_kind(kind)
            ranks = np.arange(1, len(mine) + 1)
            names, values = [one.id for one in mine], [one.value for one in mine]
            others, rows = [one.other for one in mine], [one.row for one in mine]
            table.write(([kind] * len(mine), ranks, names, values, others, rows))


def check_quality_output(folder: Path, *, overwrite: bool) -> None:
    """Refuses a folder that holds other files, or a report that may not be replaced.

    Raises:
        StoreError: It does, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder}: is no folder; choose another output")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if names - _NAMES:
        raise StoreError(f"{folder}: holds other files; choose another output")
    if names and not overwrite:
        raise StoreError(f"{folder}: exists already; overwrite=True replaces it")


def summary_of(report: QualityReport) -> dict[str, Any]:
    """The report without its images, for JSON."""
    return {
        "store": str(report.path),
        "images": report.images,
        "measured": report.measured,
        "issues": report.counts,
        "images_with_issues": len({issue.row for issue in report.issues}),
        "thresholds": asdict(report.thresholds),
        "percentiles": {
            name: dict(zip(("5", "50", "95"), _percentiles(values), strict=True))
            for name, values in report.measures.items()
            if values.dtype.kind == "f"
        },
    }


def _percentiles(values: NDArray[Any]) -> list[float]:
    known = values[~np.isnan(values)]
    return np.percentile(known, [5, 50, 95]).tolist() if len(known) else [float("nan")] * 3


def _write_images(report: QualityReport, path: Path) -> None:
    kinds = {"f": "float32", "O": "string"}
    measures = [report.measures[name] for name in MEASURES]
    columns = [
        Column(name, kinds.get(values.dtype.kind, "int64"))  # type: ignore[arg-type]
        for name, values in zip(MEASURES, measures, strict=True)
    ]
    with (
        EmbeddingStore.open(report.path) as store,
        atomic_file(path) as file,
        open_table(".parquet", file, (Column("id", "string"), *columns)) as table,
    ):
        for start in range(0, report.images, _PIECE):
            some = slice(start, start + _PIECE)
            parts = [_plain(values[some]) for values in measures]
            table.write((store.ids[start : start + _PIECE], *parts))


def _plain(values: NDArray[Any]) -> Any:
    if values.dtype.kind != "O":
        return values
    return [one if isinstance(one, str) else one.decode("utf-8", "replace") for one in values]
