"""Nearest-neighbour indexes: choose, build, tune, search, update."""

from embedkit.index import openmp_wait  # noqa: F401  # before anything loads faiss
from embedkit.index.auto_select import Choice
from embedkit.index.index import Index
from embedkit.index.manifest import OperatingPoint
from embedkit.index.spec import IndexSpec, Metric
from embedkit.index.store_update import IndexUpdate

__all__ = [
    "Choice",
    "Index",
    "IndexSpec",
    "IndexUpdate",
    "Metric",
    "OperatingPoint",
]
