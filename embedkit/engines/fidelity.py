"""Measures how closely embeddings in a faster precision agree with fp32, and the pass threshold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedkit.utils.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["GATE", "Fidelity", "measure_fidelity"]

_TIE = 1e-6  # neighbours with cosines this close count as the same: identical images


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A comparison of some images' embeddings with those of fp32.

    Attributes:
        images: Number of images compared.
        cosine_min: The minimum cosine of an embedding to its counterpart.
        cosine_1pct: The cosine that 1% of the embeddings fall below.
        cosine_median: The median cosine.
        same_neighbor: Share of the images whose nearest neighbour among the others is the same;
            1 for a single image.
    """

    images: int
    cosine_min: float
    cosine_1pct: float
    cosine_median: float
    same_neighbor: float

    def reaches(self, gate: Fidelity) -> bool:
        """Whether every value is at least that of the gate."""
        return (
            self.images >= gate.images
            and self.cosine_min >= gate.cosine_min
            and self.cosine_1pct >= gate.cosine_1pct
            and self.cosine_median >= gate.cosine_median
            and self.same_neighbor >= gate.same_neighbor
        )

    def __str__(self) -> str:
        return (
            f"cosine to fp32 {self.cosine_min:.5f} min, {self.cosine_1pct:.5f} at 1%, "
            f"{self.cosine_median:.5f} median; {self.same_neighbor:.1%} same nearest neighbour "
            f"of {self.images} images"
        )

    def to_config(self) -> dict[str, Any]:
        """JSON-compatible values."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """What ``to_config`` gave."""
        return cls(**config)


GATE = Fidelity(
    images=32, cosine_min=0.995, cosine_1pct=0.998, cosine_median=0.9995, same_neighbor=0.99
)
"""What ``precision="auto"`` asks of bf16. Scores that differ by 0.0005 don't change a ranking that
means anything; a trained EfficientNet-Lite0 (0.9974 min, 0.9994 median in bf16) doesn't pass."""


def measure_fidelity(reference: NDArray[np.floating], found: NDArray[np.floating]) -> Fidelity:
    """Compares embeddings with those of the same images in fp32.

    Args:
        reference: ``(n, D)`` in fp32, n >= 1.
        found: ``(n, D)`` in the other precision.

    Raises:
        ValueError: The shapes differ, or there is no row.
    """
    if reference.shape != found.shape or not len(reference):
        raise ValueError(f"can't compare embeddings {found.shape} with {reference.shape}")
    first = unit_rows(reference)
    second = unit_rows(found)
    cosines = np.nan_to_num((first * second).sum(1), nan=-1.0)
    return Fidelity(
        images=len(reference),
        cosine_min=float(cosines.min()),
        cosine_1pct=float(np.quantile(cosines, 0.01)),
        cosine_median=float(np.median(cosines)),
        same_neighbor=_same_neighbor(first, second),
    )


def _same_neighbor(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The share of rows whose neighbour in ``second`` is as near in ``first`` as the nearest is."""
    if len(first) == 1:
        return 1.0
    scores, others = first @ first.T, second @ second.T
    np.fill_diagonal(scores, -np.inf)
    np.fill_diagonal(others, -np.inf)
    chosen = np.take_along_axis(scores, others.argmax(1)[:, None], axis=1)[:, 0]
    return float((chosen >= scores.max(1) - _TIE).mean())
