"""The decoding policy: limits of accepted images, and the background for transparency."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from embedkit.utils.arguments import plain_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

__all__ = ["DecodePolicy", "DecodedImage"]


@plain_numbers
@dataclass(frozen=True, slots=True)
class DecodePolicy:
    """Limits of accepted images, and the background under transparency.

    Attributes:
        background: sRGB colour under transparent pixels, 0 to 255 each.
        max_pixels: Larger images are rejected by their header.
        max_bytes: Larger files are rejected without reading them.

    Raises:
        ValueError: If a value is out of range.
    """

    background: tuple[int, int, int] = (255, 255, 255)
    max_pixels: int = 100_000_000
    max_bytes: int = 256 * 2**20

    def __post_init__(self) -> None:
        if len(self.background) != 3 or not all(0 <= level <= 255 for level in self.background):
            raise ValueError(f"background takes three levels from 0 to 255, not {self.background}")
        if self.max_pixels < 1 or self.max_bytes < 1:
            raise ValueError("max_pixels and max_bytes must be positive")

    def to_config(self) -> dict[str, Any]:
        """JSON-compatible values; `from_config` gives an equal object back."""
        return {**asdict(self), "background": list(self.background)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Rebuild from what `to_config` gave.

        Raises:
            ValueError: If a value is out of range.
            TypeError: If there is a setting that this version doesn't know.
        """
        values = dict(config)
        if "background" in values:
            values["background"] = tuple(values["background"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A decoded image.

    Attributes:
        image: Mode RGB, 8-bit sRGB, upright, fully loaded, without metadata.
        format: ``JPEG``, ``PNG``, ``WEBP``, ``GIF``, ``BMP``, ``TIFF``, ``PPM``, ``AVIF``,
            ``HEIF``, ``JPEG2000`` or ``JPEGXL``, as found in the content.
        frames: How many frames or pages the file has; the image is the first.
    """

    image: Image.Image
    format: str
    frames: int = 1
