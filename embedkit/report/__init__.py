"""HTML reports: one file that opens by a double click and needs nothing else."""

from embedkit.report.content import (
    ClassifiedPicture,
    Gallery,
    GroupMember,
    Picture,
    SearchExample,
)
from embedkit.report.frontier import plot_frontier
from embedkit.report.gallery import thumbnail, write_gallery

__all__ = [
    "ClassifiedPicture",
    "Gallery",
    "GroupMember",
    "Picture",
    "SearchExample",
    "plot_frontier",
    "thumbnail",
    "write_gallery",
]
