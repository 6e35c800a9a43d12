"""Selects stored images: the best per class, or a subset by similarity; in bounded memory."""

from embedkit.analysis.selection.coverage import Coverage, measure_coverage
from embedkit.analysis.selection.results_file import (
    write_selection,
    write_subset,
    write_webdataset,
)
from embedkit.analysis.selection.select import Selection, select
from embedkit.analysis.selection.subset import Subset, select_subset

__all__ = [
    "Coverage",
    "Selection",
    "Subset",
    "measure_coverage",
    "select",
    "select_subset",
    "write_selection",
    "write_subset",
    "write_webdataset",
]
