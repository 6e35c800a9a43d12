"""Outliers: off-topic images, and labels that the nearest neighbours contradict."""

from embedkit.analysis.outliers.html_page import write_outliers_page
from embedkit.analysis.outliers.outliers import Outlier, Outliers, find_outliers
from embedkit.analysis.outliers.results_file import write_outliers

__all__ = ["Outlier", "Outliers", "find_outliers", "write_outliers", "write_outliers_page"]
