"""The one place that writes faiss's vector internals: a faiss vector as a view of given memory.

faiss reads an index's vectors from a ``MaybeOwnedVector``, which can be a view, but its Python
bindings offer a view only when an index is read from a mapped file of its own format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import faiss
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["view_memory"]


def view_memory(vector: faiss.MaybeOwnedVectorUInt8, memory: NDArray[np.generic]) -> None:
    """Makes a faiss vector of bytes a view of memory.

    Args:
        vector: An empty vector, such as the ``codes`` of an empty flat index.
        memory: C-contiguous; it must outlive the vector.
    """
    data = memory.reshape(-1).view(np.uint8)
    vector.is_owned = False
    vector.view_data = vector.c_ptr = faiss.swig_ptr(data)
    vector.view_size = vector.c_size = data.size
