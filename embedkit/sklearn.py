"""``embedkit.sklearn``: see `embedkit.integrations.sklearn`."""

from embedkit.integrations.sklearn import EmbeddingTransformer

__all__ = ["EmbeddingTransformer"]
