"""Nearest-neighbour indexes: built from stores by streaming, searched, checked on opening."""

from embedkit.index.index import Index
from embedkit.index.manifest import Metric

__all__ = ["Index", "Metric"]
