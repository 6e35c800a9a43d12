"""Sources of images: folders, lists, archives, tables and URLs, all listed in one way.

``open_source`` turns what the user names into a :class:`Source`, whose ``scan`` lists
:class:`~embedkit.types.ImageRecord` one at a time; :class:`ImageReader` reads the bytes of any
record, even where the source is long gone.
"""

from __future__ import annotations

from embedkit.sources.base import Source
from embedkit.sources.open import open_source
from embedkit.sources.readers.image_reader import ImageReader

__all__ = ["ImageReader", "Source", "open_source"]
