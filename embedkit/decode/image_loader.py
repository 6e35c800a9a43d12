"""Turns encoded bytes into backbone input, and collects the stored facts of each image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from embedkit.decode import fast
from embedkit.decode.exact import decode_image
from embedkit.decode.phash import perceptual_hash, thumbnail
from embedkit.decode.resize import Scaler
from embedkit.decode.time_limit import IMAGE_SECONDS, decode_within
from embedkit.errors import DecodeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embedkit.decode.policy import DecodePolicy
    from embedkit.decode.preprocessing import Preprocessing
    from embedkit.decode.resize import Scale

__all__ = ["Decoder", "ImageLoader", "LoadedImage"]

Decoder = Literal["fast", "exact"]


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image, ready for the backbone.

    Attributes:
        pixels: ``(crop, crop, 3) uint8`` RGB, not normalised.
        width: Width of the upright image, pixels.
        height: Height of the upright image, pixels.
        format: As ``DecodedImage.format``.
        thumbnail: ``(32, 32, 3) uint8`` of the whole image; the perceptual hash is made of it.
        frames: As ``DecodedImage.frames``.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    thumbnail: NDArray[np.uint8]
    frames: int = 1

    @property
    def phash(self) -> int:
        """64-bit perceptual hash of the whole image; for many, hash their thumbnails at once."""
        return perceptual_hash(self.thumbnail)


@dataclass(frozen=True, slots=True)
class ImageLoader:
    """Decodes, scales and crops; safe to call from many threads.

    Attributes:
        policy: Limits and background.
        preprocessing: Scale and crop.
        decoder: ``exact``: Pillow to the bit. ``fast``: ordinary JPEGs by libjpeg-turbo and
            PyTorch, at most two levels away from that; all else exactly.
        scale: Scales for the fast decoder.
        timeout: Seconds that the decoding of an image may take; 0 is no limit.
    """

    policy: DecodePolicy
    preprocessing: Preprocessing
    decoder: Decoder
    scale: Scale = field(default_factory=Scaler)
    timeout: float = IMAGE_SECONDS

    def __call__(self, data: bytes, image_id: str) -> LoadedImage:
        """Loads one image.

        Args:
            data: The encoded file.
            image_id: Named in the error.

        Raises:
            DecodeError: It can't be decoded, takes too long, or is too narrow to scale.
        """
        loaded = None
        if self.decoder == "fast" and fast.can_scale(self.preprocessing):
            loaded = self._fast(data, image_id)
        return loaded or self._exact(data, image_id)

    def _exact(self, data: bytes, image_id: str) -> LoadedImage:
        decoded = decode_image(data, image_id, self.policy, self.timeout)
        self._check(decoded.image.size, image_id)
        pixels = self.preprocessing.apply(decoded.image)
        small = thumbnail(decoded.image)
        size = decoded.image.size
        return LoadedImage(pixels, *size, decoded.format, small, decoded.frames)

    def _fast(self, data: bytes, image_id: str) -> LoadedImage | None:
        """None where the fast way is not for this image."""
        pixels = decode_within(
            self.timeout, image_id, lambda: fast.decode_jpeg(data, image_id, self.policy)
        )
        if pixels is None:
            return None
        height, width = pixels.shape[:2]
        self._check((width, height), image_id)
        cropped = fast.scale_and_crop(pixels, self.preprocessing, self.scale)
        thumbnail = fast.thumbnail(pixels, self.scale)
        return LoadedImage(cropped, width, height, "JPEG", thumbnail)

    def _check(self, size: tuple[int, int], image_id: str) -> None:
        try:
            self.preprocessing.check(size)
        except ValueError as exc:
            raise DecodeError(image_id, str(exc)) from exc
