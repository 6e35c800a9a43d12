"""A store as a map: each image a point, near to those that it resembles."""

from embedkit.analysis.embedding_map.plot import MapSummary, plot

__all__ = ["MapSummary", "plot"]
