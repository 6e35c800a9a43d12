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
from embedkit.report.map_page import GROUP_COLORS, OTHER_COLOR, MapPage, write_map
from embedkit.report.recall_time_plot import plot_frontier

__all__ = [
    "GROUP_COLORS",
    "OTHER_COLOR",
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
