"""Reads query vectors from a NumPy file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedkit.errors import SourceError

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

__all__ = ["load_vectors"]


def load_vectors(path: str | os.PathLike[str]) -> NDArray[np.floating]:
    """Opens a ``.npy`` file of embeddings, mapped, not read.

    Args:
        path: The file: an array ``(n, D)``, or ``(D,)`` for one, of floats.

    Raises:
        SourceError: It can't be read, or holds something else.
    """
    path = Path(path)
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as exc:
        raise SourceError(f"{path}: can't be read: {exc.strerror or exc}") from exc
    except (ValueError, EOFError) as exc:
        raise SourceError(f"{path}: is no .npy file of numbers: save one with numpy.save") from exc
    if not isinstance(found, np.ndarray):
        found.close()
        raise SourceError(f"{path}: holds several arrays; save the vectors alone with numpy.save")
    if found.dtype.kind != "f" or found.ndim not in (1, 2):
        raise SourceError(
            f"{path}: an array {found.shape} of {found.dtype}; vectors are (n, D) floats"
        )
    return found
