"""Selects the best images per class from stored embeddings, in bounded memory."""

from embedkit.analysis.selection.results_file import write_selection, write_webdataset
from embedkit.analysis.selection.select import Selection, select

__all__ = ["Selection", "select", "write_selection", "write_webdataset"]
