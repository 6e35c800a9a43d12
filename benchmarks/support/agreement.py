"""How near features are to exact ones, and the exact ones: Pillow's pixels, PyTorch eager, fp32."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from support.machine import usable_cores

if TYPE_CHECKING:
    from embedkit.backbones import Backbone, Head

AGREEMENT_HEADER = ("cosine min", "1%", "median", "same neighbour", "same top-1")


@dataclass(frozen=True)
class Agreement:
    """Of ``count`` images: their cosines to the exact features, and what users see of them.

    ``same_neighbor``: images whose nearest other image is the same among these features as among
    the exact ones. ``same_top1``: those with the same class; None without a head.
    """

    count: int
    least: float
    first_percentile: float
    median: float
    same_neighbor: int
    same_top1: int | None

    def cells(self) -> list[str]:
        """The cells under `AGREEMENT_HEADER`."""
        cosines = [f"{value:.6f}" for value in (self.least, self.first_percentile, self.median)]
        top1 = "" if self.same_top1 is None else f"{self.same_top1} of {self.count}"
        return [*cosines, f"{100 * self.same_neighbor / self.count:.2f}%", top1]


def agreement(
    exact: NDArray[np.floating], other: NDArray[np.floating], head: "Head | None"
) -> Agreement:
    """Compares ``(N, D)`` features with exact ones of the same images."""
    one, two = _unit(exact), _unit(other)
    cosines = (one * two).sum(axis=1)
    top1 = None
    if head is not None:
        top1 = int((_classes(exact, head) == _classes(other, head)).sum())
    return Agreement(
        len(exact),
        float(cosines.min()),
        float(np.percentile(cosines, 1)),
        float(np.median(cosines)),
        int((nearest_others(one) == nearest_others(two)).sum()),
        top1,
    )


def nearest_others(unit: NDArray[np.float64]) -> NDArray[np.intp]:
    """The row of highest cosine to each row, itself left out, by brute force."""
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    return scores.argmax(axis=1)


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def _classes(rows: NDArray[np.floating], head: "Head") -> NDArray[np.intp]:
    return (rows.astype(np.float32) @ head.weight.T + head.bias).argmax(axis=1)


def eager_features(
    backbone: "Backbone", pixels: Sequence[NDArray[np.uint8]]
) -> NDArray[np.float32]:
    """PyTorch eager, fp32, one image at a time, nothing fused or folded: the oracle."""
    import torch

    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1)
        for values in (backbone.preprocessing.mean, backbone.preprocessing.std)
    )

    def features(one: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            image = torch.from_numpy(one.copy()).permute(2, 0, 1)[None]
            return backbone.module((image / 255 - mean) / std)[0].numpy()

    torch.set_num_threads(1)
    with ThreadPoolExecutor(usable_cores()) as pool:
        return np.stack(list(pool.map(features, pixels)))
