"""Resizes and crops an RGB image to the square of pixels that a backbone takes.

The pixels are those of torchvision's ``Resize(resize, interpolation, antialias=True)`` followed by
``CenterCrop(crop)`` on a Pillow image, bit for bit. Normalisation (``mean``, ``std``) is the
engine's: it is one multiply-add there, and four times fewer bytes travel to it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from PIL import Image

from embedkit.utils.arguments import plain_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Preprocessing"]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_CROP_MODES = ("center", "squash")

_MAX_RESIZED_PIXELS = 100_000_000
"""A sliver of 1 x 10,000 pixels, its shorter side scaled to 256, would become 655 million."""


@plain_numbers
@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image becomes a backbone's input.

    Attributes:
        resize: The shorter side after scaling, pixels; ``squash`` does not use it.
        crop: Side of the square that is cut out, pixels.
        interpolation: Scaling filter; all but ``nearest`` are antialiased, as Pillow's are.
        mean: Subtracted from each channel after division by 255 (RGB).
        std: Divided by, after that.
        crop_mode: ``center`` cuts the middle out of the scaled image and pads with black where it
            is smaller; ``squash`` scales the whole image to the square.

    Raises:
        ValueError: If a setting is out of range or unknown.
    """

    resize: int = 256
    crop: int = 224
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"] = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    crop_mode: Literal["center", "squash"] = "center"

    def __post_init__(self) -> None:
        if self.resize < 1 or self.crop < 1:
            raise ValueError(f"resize and crop must be positive, not {self.resize}, {self.crop}")
        if self.interpolation not in _FILTERS:
            raise ValueError(f"interpolation {self.interpolation!r} is none of {list(_FILTERS)}")
        if self.crop_mode not in _CROP_MODES:
            raise ValueError(f"crop_mode {self.crop_mode!r} is none of {list(_CROP_MODES)}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError("mean and std take three values each, and those of std are positive")

    def to_config(self) -> dict[str, Any]:
        """JSON-compatible values; `from_config` gives an equal object back."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Rebuild from what `to_config` gave.

        Raises:
            ValueError: If a value is out of range.
            TypeError: If there is a setting that this version doesn't know.
        """
        values = dict(config)
        for name in ("mean", "std"):
            if name in values:
                values[name] = tuple(values[name])
        return cls(**values)

    def resized_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """What an image of this size is scaled to, before the crop.

        Args:
            size: (width, height), pixels.

        Returns:
            (width, height), pixels. The longer side is rounded down.

        Source: torchvision.transforms.functional._compute_resized_image_output_size
        """
        if self.crop_mode == "squash":
            return self.crop, self.crop
        width, height = size
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize

    def check(self, size: tuple[int, int]) -> None:
        """Refuse an image that scaling would blow up, before it is decoded or scaled.

        Args:
            size: (width, height), pixels.

        Raises:
            ValueError: If the scaled image would exceed 100 million pixels, which only an extreme
                aspect ratio brings about. The message is one line, fit for a failure ledger.
        """
        width, height = self.resized_size(size)
        if width * height > _MAX_RESIZED_PIXELS:
            raise ValueError(
                f"too narrow: {size[0]}x{size[1]} scaled to {width}x{height} would exceed "
                f"{_MAX_RESIZED_PIXELS:,} pixels"
            )

    def apply(self, image: Image.Image) -> NDArray[np.uint8]:
        """Scale and crop.

        Args:
            image: An RGB image.

        Returns:
            ``(crop, crop, 3) uint8``, C-contiguous and writable, not yet normalised.

        Raises:
            ValueError: If the image isn't RGB, or `check` refuses its size.
        """
        if image.mode != "RGB":
            raise ValueError(f"an RGB image is needed, not {image.mode}")
        self.check(image.size)
        size = self.resized_size(image.size)
        if size != image.size:
            # The whole image is scaled, even what the crop drops: Pillow keeps `box` in float32,
            # so scaling only a part would change the last bit of some pixels.
            image = image.resize(size, _FILTERS[self.interpolation])
        if image.size != (self.crop, self.crop):
            left, top = self.crop_origin(image.size)
            image = image.crop((left, top, left + self.crop, top + self.crop))
        return np.array(image)

    def crop_origin(self, size: tuple[int, int]) -> tuple[int, int]:
        """Where the crop begins in a scaled image; negative where black pixels pad it.

        Args:
            size: (width, height) of the scaled image, pixels.

        Returns:
            (left, top), pixels.

        Source: torchvision.transforms.functional.center_crop, rounding included: a side that is
        too short is padded by ``(crop - side) // 2`` before it, one too long loses
        ``round((side - crop) / 2)``, halves to even.
        """
        return _crop_start(size[0], self.crop), _crop_start(size[1], self.crop)


def _crop_start(side: int, crop: int) -> int:
    """Where the crop begins on an axis, pixels; negative where the image is padded."""
    return -((crop - side) // 2) if side < crop else round((side - crop) / 2)
