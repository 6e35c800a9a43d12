"""Sources of images: folders, lists, archives, Parquet files and URLs, with one interface.

``open_source`` opens a path, URL or pattern as a :class:`Source`, whose ``scan`` yields
:class:`~embedkit.types.ImageRecord` objects; :class:`ImageReader` reads the bytes of any record,
without the source object.
"""

from __future__ import annotations

from embedkit.sources.base import Source
from embedkit.sources.open import open_source
from embedkit.sources.readers.image_reader import ImageReader

__all__ = ["ImageReader", "Source", "open_source"]
