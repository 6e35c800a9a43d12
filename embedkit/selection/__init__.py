"""The best images of each class, from stored embeddings, in bounded memory."""

from embedkit.selection.files import write_selection, write_webdataset
from embedkit.selection.streaming import Selection, select

__all__ = ["Selection", "select", "write_selection", "write_webdataset"]
