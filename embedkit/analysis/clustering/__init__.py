"""Clusters stored images without labels: spherical k-means, streamed."""
