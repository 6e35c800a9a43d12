"""From ids back to the images, small, for pages."""

from embedkit.pictures.thumbnails import thumbnails

__all__ = ["thumbnails"]
