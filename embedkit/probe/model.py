"""A trained probe: predicts from embeddings, and rejects embeddings with other settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from embedkit.errors import StoreMismatchError
from embedkit.probe.knn import nearest, votes
from embedkit.probe.rows import Rows, scaled
from embedkit.probe.targets import Targets

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embedkit.probe.targets import Task
    from embedkit.store import StoreMeta

__all__ = ["KnnProbe", "LinearProbe", "Probe", "refuse_others"]


def refuse_others(name: str, meta: StoreMeta, other: StoreMeta, *, normalize: bool) -> None:
    """Rejects features with other embedding settings.

    Args:
        name: The name of the probe or index, for the message.
        meta: How its own features were made.
        other: How the others were made.
        normalize: Whether all are scaled to unit L2 norm before they are used.

    Raises:
        StoreMismatchError: They can't be compared; the message names each difference.
    """
    differences = meta.differences(other, purpose="compare", unit_norm=normalize)
    if differences:
        way_out = "give images, or a store that was embedded alike"
        raise StoreMismatchError(name, differences, way_out=way_out)


@dataclass(frozen=True, slots=True, repr=False)
class Probe(ABC):
    """A trained probe of one kind.

    Attributes:
        path: Its folder, for messages; empty while it has none.
        task: ``classes``, ``multilabel`` or ``regression``.
        names: The C classes or labels, or the name of the number.
        meta: How the features that it was trained on were embedded.
        normalize: Whether it takes features of unit L2 norm.
    """

    path: Path
    task: Task
    names: tuple[str, ...]
    meta: StoreMeta
    normalize: bool

    kind: ClassVar[str]

    def __repr__(self) -> str:
        where = f" {str(self.path)!r}" if self.path.name else ""
        chosen = ", ".join(f"{name}={value:g}" for name, value in self.settings().items())
        return (
            f"<{type(self).__name__}{where}: {self.task}, {len(self.names):,} targets, {chosen}, "
            f"{self.meta.backbone}>"
        )

    @abstractmethod
    def scores(self, embeddings: NDArray[np.floating]) -> NDArray[np.floating]:
        """Probabilities of classes or labels, shares of votes, or numbers.

        Args:
            embeddings: ``(n, D)`` as a store of this backbone has them.

        Returns:
            ``(n, C)`` float32, or float64 numbers.
        """

    @abstractmethod
    def tensors(self) -> dict[str, NDArray[Any]]:
        """The arrays to save with the settings."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The settings of this kind, for JSON."""

    def check_compatible(self, meta: StoreMeta) -> None:
        """Rejects embeddings with other settings than the training embeddings.

        Args:
            meta: How they were made.

        Raises:
            StoreMismatchError: They can't be compared; the message names each difference.
        """
        refuse_others(str(self.path), self.meta, meta, normalize=self.normalize)


@dataclass(frozen=True, slots=True, repr=False)
class LinearProbe(Probe):
    """A linear classifier or regressor.

    Attributes:
        weight: ``(C, D)`` float32, or float64 for a regression.
        bias: ``(C,)``, of the same dtype.
        c: Inverse regularisation strength.
    """

    weight: NDArray[np.floating]
    bias: NDArray[np.floating]
    c: float

    kind = "linear"

    def scores(self, embeddings: NDArray[np.floating]) -> NDArray[np.floating]:
        """``(n, C)``: softmax for classes, sigmoid for labels, numbers as they are."""
        features = scaled(embeddings, normalize=self.normalize)
        if self.task == "regression":
            numbers: NDArray[np.float64] = features.astype(np.float64) @ self.weight.T + self.bias
            return numbers
        logits: NDArray[np.float32] = features @ self.weight.T + self.bias
        if self.task == "multilabel":
            return np.exp(-np.logaddexp(np.float32(0), -logits))
        logits -= logits.max(axis=1, keepdims=True)
        shares: NDArray[np.float32] = np.exp(logits)
        shares /= shares.sum(axis=1, keepdims=True)
        return shares

    def tensors(self) -> dict[str, NDArray[Any]]:
        """``weight`` and ``bias``."""
        return {"weight": self.weight, "bias": self.bias}

    def settings(self) -> dict[str, Any]:
        """The C."""
        return {"c": self.c}


@dataclass(frozen=True, slots=True, repr=False)
class KnnProbe(Probe):
    """A weighted k-nearest-neighbour classifier or regressor.

    Attributes:
        embeddings: ``(N, D)`` float16 or float32, as stored.
        values: ``(N,)`` int64 class numbers, ``(N, C)`` float32 or ``(N, 1)`` float64.
        k: Number of neighbours that vote.
    """

    embeddings: NDArray[np.floating]
    values: NDArray[Any]
    k: int

    kind = "knn"

    def scores(self, embeddings: NDArray[np.floating]) -> NDArray[np.floating]:
        """``(n, C)``: shares of the votes, or the weighted mean of numbers."""
        training = Rows(self.embeddings, normalize=self.normalize)
        nothing = np.empty(0, np.int64)
        targets = Targets(self.task, self.names, nothing, (), self.values)
        queries = Rows(embeddings, normalize=self.normalize)
        parts = [
            part
            for found in nearest(queries, training, self.k)
            for part in votes(found, targets, [self.k])
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(self.names)), np.float32)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """``embeddings`` and ``values``."""
        return {"embeddings": self.embeddings, "values": self.values}

    def settings(self) -> dict[str, Any]:
        """The k."""
        return {"k": self.k}
