"""Vote weights of nearest neighbours, from their cosines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TEMPERATURE", "vote_weights"]

TEMPERATURE = 0.07
"""As in Caron et al. 2021, "Emerging properties in self-supervised vision transformers", arXiv
2104.14294, which takes the weights from Wu et al. 2018, arXiv 1805.01978."""


def vote_weights(cosines: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns ``exp(cosine / TEMPERATURE)``, divided by that of the highest cosine.

    Relative weights stay finite for inner products of rows that aren't normalised.

    Args:
        cosines: ``(..., k)`` float32 or float64, of k neighbours.

    Returns:
        ``(..., k)`` float64, at most 1.
    """
    relative = (cosines - cosines.max(axis=-1, keepdims=True)) / TEMPERATURE
    weights: NDArray[np.float64] = np.exp(relative.astype(np.float64))
    return weights
