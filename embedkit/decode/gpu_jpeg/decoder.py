"""Decodes batches of JPEGs by a GPU's JPEG engines, once it has shown to give the CPU's bits."""

from __future__ import annotations

import logging
import queue
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
import torch

from embedkit.decode.fast import can_scale
from embedkit.decode.gpu_jpeg.encoded import SUBSAMPLING, GpuJpegError, read_encoded
from embedkit.decode.gpu_jpeg.nvjpeg import NvJpeg, open_library
from embedkit.decode.gpu_jpeg.pixels import ImageTable, Scaled, scaled_images
from embedkit.decode.phash import THUMBNAIL_SIDE

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from embedkit.decode.gpu_jpeg.encoded import EncodedJpeg
    from embedkit.decode.image_loader import ImageLoader
    from embedkit.decode.preprocessing import Preprocessing

__all__ = ["GpuJpegDecoder", "open_gpu_jpeg_decoder"]

_AT_ONCE = 2  # callers that decode at the same time; one keeps the engines waiting
_MOST_PIXELS = 1 << 27  # decoded together: some 0.8 GiB
_log = logging.getLogger("embedkit")


def open_gpu_jpeg_decoder(device: str, load: ImageLoader) -> GpuJpegDecoder | None:
    """The decoder of a device; None where it can't do exactly what ``load`` does.

    Args:
        device: ``cuda``, ``cuda:1``; others have none.
        load: Decodes the same images on the CPU.
    """
    library = open_library() if device.startswith("cuda") else None
    if library is None or load.decoder != "fast" or not can_scale(load.preprocessing):
        return None
    try:
        decoder = GpuJpegDecoder(torch.device(device), load.preprocessing, library)
    except GpuJpegError as exc:
        _log.debug("no JPEG engines on %s: %s", device, exc)
        return None
    try:
        reason = "" if decoder.agrees_with(load) else "it gives other pixels"
    except Exception as exc:  # Triton's and the compiler's have no one base
        reason = " ".join(str(exc).split())[:200]
    if not reason:
        _log.info("ordinary JPEGs are decoded by the JPEG engines of %s", device)
        return decoder
    _log.warning("the JPEG engines of %s are not used: %s", device, reason)
    decoder.close()
    return None


class GpuJpegDecoder:
    """Decodes, scales and crops; safe to call from several threads.

    Args:
        device: The CUDA device.
        preprocessing: Scale and crop.
        library: nvJPEG.

    Raises:
        GpuJpegError: The device has no JPEG engines.
    """

    def __init__(
        self, device: torch.device, preprocessing: Preprocessing, library: ctypes.CDLL
    ) -> None:
        self._preprocessing = preprocessing
        self._free: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
        self._lanes = [_Lane(device, library) for _ in range(_AT_ONCE)]
        for lane in self._lanes:
            self._free.put(lane)

    def __call__(
        self,
        jpegs: Sequence[EncodedJpeg],
        memory: NDArray[np.uint8],
        pixels: NDArray[np.uint8],
    ) -> NDArray[np.uint8]:
        """Decode images to what `ImageLoader` makes of each.

        Args:
            jpegs: What ``read_encoded`` found of each, at least one.
            memory: ``(any,) uint8``, C-contiguous; their bytes lie in it.
            pixels: ``(n, S, S, 3) uint8``, filled.

        Returns:
            ``(n, 32, 32, 3) uint8``, the thumbnails.

        Raises:
            GpuJpegError: One of them isn't decoded, or there is no memory.
        """
        order = sorted(range(len(jpegs)), key=lambda place: jpegs[place][4:6])
        small = np.empty((len(jpegs), THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3), np.uint8)
        with self._lane() as lane:
            for places in _parts(order, jpegs):
                chosen = [jpegs[place] for place in places]
                try:
                    found = lane.decode(chosen, memory, self._preprocessing)
                except torch.OutOfMemoryError as exc:
                    raise GpuJpegError(str(exc).partition(".")[0]) from exc
                pixels[places], small[places] = found
        return small

    def agrees_with(self, load: ImageLoader) -> bool:
        """Whether drawn images of all kinds get the bits that the CPU gives them."""
        for data in _drawn():
            expected, jpeg = load(data, "drawn"), read_encoded(data, "drawn", load.policy)
            assert jpeg is not None, "it is an ordinary one"
            pixels = np.empty_like(expected.pixels)
            small = self([jpeg], np.frombuffer(data, np.uint8), pixels[None])
            same = np.array_equal(pixels, expected.pixels)
            if not (same and np.array_equal(small[0], expected.thumbnail)):
                return False
        return True

    def close(self) -> None:
        """Give the device's memory back."""
        for lane in self._lanes:
            lane.close()

    @contextmanager
    def _lane(self) -> Iterator[_Lane]:
        lane = self._free.get()
        try:
            yield lane
        finally:
            self._free.put(lane)


class _Lane:
    """A stream, and nvJPEG's state for each subsampling; for one caller at a time."""

    def __init__(self, device: torch.device, library: ctypes.CDLL) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._nvjpegs = {kind: NvJpeg(library) for kind in SUBSAMPLING.values()}

    def decode(
        self, jpegs: Sequence[EncodedJpeg], memory: NDArray[np.uint8], preprocessing: Preprocessing
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Images of one subsampling."""
        table = ImageTable.of(jpegs, preprocessing.crop)
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            try:
                planes = torch.empty(table.plane_bytes, dtype=torch.uint8, device=self._device)
                offsets, pitches = table.planes()
                self._nvjpegs[jpegs[0][4:6]].decode(
                    (memory.ctypes.data + table.jpegs[:, 0]).astype(np.uint64),
                    table.jpegs[:, 1].astype(np.uint64),
                    (planes.data_ptr() + offsets).astype(np.uint64),
                    pitches.astype(np.uint64),
                    self._stream.cuda_stream,
                )
                found = scaled_images(planes, table, preprocessing)
                fetched = Scaled(
                    *(torch.empty(one.shape, dtype=one.dtype, pin_memory=True) for one in found)
                )
                for there, here in zip(found, fetched, strict=True):
                    here.copy_(there, non_blocking=True)
            finally:  # after an error too: nothing may use the encoded bytes any more
                self._done.record(self._stream)
                self._done.synchronize()
        return fetched.pixels.numpy(), fetched.thumbnails.numpy()

    def close(self) -> None:
        for nvjpeg in self._nvjpegs.values():
            nvjpeg.close()


def _parts(order: list[int], jpegs: Sequence[EncodedJpeg]) -> Iterator[list[int]]:
    """The images in parts of one subsampling and not too many pixels."""
    part: list[int] = []
    pixels = 0
    for place in order:
        jpeg = jpegs[place]
        more = jpeg.width * jpeg.height
        if part and (jpegs[part[0]][4:6] != jpeg[4:6] or pixels + more > _MOST_PIXELS):
            yield part
            part, pixels = [], 0
        part.append(place)
        pixels += more
    if part:
        yield part


def _drawn() -> Iterator[bytes]:
    """JPEGs of noise and of slopes, of all subsamplings, of several sizes and qualities."""
    rng = np.random.default_rng(0)
    for name in SUBSAMPLING:
        for width, height, quality in ((333, 251, 100), (64, 97, 40), (640, 479, 85)):
            noise = rng.integers(0, 256, (height, width, 3), np.uint8)
            slope = np.add.outer(np.arange(height), np.arange(width))[..., None] % 256
            image = np.where(rng.random((height, width, 1)) < 0.5, slope, noise).astype(np.uint8)
            yield simplejpeg.encode_jpeg(image, quality, "RGB", name)
