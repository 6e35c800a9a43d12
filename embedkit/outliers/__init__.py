"""Images that don't belong: off-topic ones, and labels that the neighbours contradict."""

from embedkit.outliers.files import write_outliers
from embedkit.outliers.find import Outlier, Outliers, find_outliers
from embedkit.outliers.page import write_outliers_page

__all__ = ["Outlier", "Outliers", "find_outliers", "write_outliers", "write_outliers_page"]
