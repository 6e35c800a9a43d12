"""An array in a file of its own that is mapped into memory."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

__all__ = ["MappedArray"]


class MappedArray:
    """An array of zeros in a new file, mapped into memory.

    Attributes:
        values: The array, which can be written to.

    Args:
        path: The file, which is made or emptied.
        dtype: Type of the values.
        shape: Shape of the array.
    """

    def __init__(self, path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        count = int(np.prod(shape))
        nbytes = max(count * np.dtype(dtype).itemsize, 1)
        with path.open("w+b") as file:
            file.truncate(nbytes)
            self._map = mmap.mmap(file.fileno(), nbytes)
        self.values: NDArray[Any] = np.frombuffer(self._map, dtype, count).reshape(shape)

    def release(self) -> None:
        """Gives the memory back that the array takes; its values stay, in the file.

        Where the operating system can't be told, it takes memory back when that is short.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
