"""Nearest-neighbour indexes: chosen, built by streaming, tuned, searched, changed."""

from embedkit.index.index import Index
from embedkit.index.progress import IndexProgress
from embedkit.index.spec import IndexSpec, Metric

__all__ = ["Index", "IndexProgress", "IndexSpec", "Metric"]
