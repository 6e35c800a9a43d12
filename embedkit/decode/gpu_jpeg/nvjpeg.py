"""nvJPEG's batched decoding on the JPEG engines of a GPU, through its C interface.

The engines decode baseline JPEGs to planes whose values are those of libjpeg-turbo's exact inverse
transform. Upsampling and colors are left to kernels of our own, which do as libjpeg-turbo does.

Source: docs.nvidia.com/cuda/nvjpeg.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedkit.decode.gpu_jpeg.encoded import GpuJpegError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NvJpeg", "open_library"]

_HARDWARE = 3  # NVJPEG_BACKEND_HARDWARE
_STRICT = 1 << 2  # NVJPEG_FLAGS_BITSTREAM_STRICT: a file that ends early is an error
_PLANES = 1  # NVJPEG_OUTPUT_YUV
_CHANNELS = 4
_DESTINATION = np.dtype([("channel", np.uint64, _CHANNELS), ("pitch", np.uint64, _CHANNELS)])


@cache
def open_library() -> ctypes.CDLL | None:
    """nvJPEG, of the package ``nvidia-nvjpeg`` or of a CUDA toolkit; None where there is none.

    None without Triton, too: nothing could be done with what it decodes.
    """
    if find_spec("triton") is None:
        return None
    spec = find_spec("nvidia")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    found = [str(path) for one in folders for path in Path(one).glob("**/lib/libnvjpeg.so.*")]
    found += filter(None, [ctypes.util.find_library("nvjpeg")])
    for name in found:
        try:
            return ctypes.CDLL(name)
        except OSError:  # for another version of CUDA
            continue
    return None


class NvJpeg:
    """Decodes batches of JPEGs of one subsampling, one batch at a time.

    Mixed batches are decoded at a third of the speed.

    Args:
        library: What `open_library` gave. The current CUDA device is used.

    Raises:
        GpuJpegError: The GPU has no JPEG engines, or the driver doesn't fit.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._handle, self._state = ctypes.c_void_p(), ctypes.c_void_p()
        self._batch = 0
        handle = ctypes.byref(self._handle)
        self._call("nvjpegCreateEx", _HARDWARE, None, None, ctypes.c_uint(_STRICT), handle)
        self._call("nvjpegJpegStateCreate", self._handle, ctypes.byref(self._state))

    def decode(
        self,
        sources: NDArray[np.uint64],
        lengths: NDArray[np.uint64],
        planes: NDArray[np.uint64],
        pitches: NDArray[np.uint64],
        stream: int,
    ) -> None:
        """Begin to decode; the memory is in use until the stream has come so far.

        Args:
            sources: ``(n,)``, addresses of the encoded bytes in the host's memory.
            lengths: ``(n,)``, bytes.
            planes: ``(n, 3)``, addresses of the planes in the device's memory.
            pitches: ``(n, 3)``, bytes per row.
            stream: The CUDA stream.

        Raises:
            GpuJpegError: One of the JPEGs isn't decoded; nothing is known of the others.
        """
        count = len(sources)
        if count != self._batch:
            self._batch = 0
            self._call(
                "nvjpegDecodeBatchedInitialize", self._handle, self._state, count, 1, _PLANES
            )
            self._batch = count
        destinations = np.zeros(count, _DESTINATION)
        destinations["channel"][:, :3] = planes
        destinations["pitch"][:, :3] = pitches
        arrays = (np.ascontiguousarray(sources), np.ascontiguousarray(lengths), destinations)
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in arrays)
        self._call(
            "nvjpegDecodeBatched",
            self._handle,
            self._state,
            *pointers,
            ctypes.c_void_p(stream),
        )

    def close(self) -> None:
        """Give the memory back."""
        self._library.nvjpegJpegStateDestroy(self._state)
        self._library.nvjpegDestroy(self._handle)

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise GpuJpegError(f"{name}: status {status}")
