"""HTML reports: each is one self-contained file."""

from embedkit.report.gallery import write_gallery
from embedkit.report.gallery_data import (
    ClassifiedPicture,
    Gallery,
    GroupMember,
    Picture,
    SearchExample,
    Shelf,
    ShelfRow,
)
from embedkit.report.map_page import MapPage, write_map
from embedkit.report.recall_time_plot import plot_frontier

__all__ = [
    "ClassifiedPicture",
    "Gallery",
    "GroupMember",
    "MapPage",
    "Picture",
    "SearchExample",
    "Shelf",
    "ShelfRow",
    "plot_frontier",
    "write_gallery",
    "write_map",
]
