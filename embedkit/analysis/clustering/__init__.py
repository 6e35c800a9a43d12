"""Clusters stored images without labels: spherical k-means, streamed."""

from embedkit.analysis.clustering.cluster import Clusters, cluster
from embedkit.analysis.clustering.html_page import write_clusters_page
from embedkit.analysis.clustering.results_file import write_clusters

__all__ = ["Clusters", "cluster", "write_clusters", "write_clusters_page"]
