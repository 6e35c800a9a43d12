"""From ids back to the images, small, for pages."""

from embedkit.pictures.originals import find_originals
from embedkit.pictures.thumbnails import policy_of, thumbnails

__all__ = ["find_originals", "policy_of", "thumbnails"]
