"""2-D maps of a store: each image is a point, similar images are close."""

from embedkit.analysis.embedding_map.plot import MapSummary, plot

__all__ = ["MapSummary", "plot"]
