"""From ids back to the images, small, for pages."""

from embedkit.pictures.thumbnails import policy_of, thumbnails

__all__ = ["policy_of", "thumbnails"]
