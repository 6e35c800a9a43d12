"""``IndexSpec``: the settings of an index to build."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from embedkit.utils.arguments import plain_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["IndexSpec", "Metric"]

Metric = Literal["cosine", "ip", "l2"]


@plain_numbers
@dataclass(frozen=True, slots=True)
class IndexSpec:
    """The settings of an index to build.

    Attributes:
        factory: A faiss factory string, or ``auto``, which chooses one.
        metric: ``cosine``, ``ip`` (inner product) or ``l2``.
        whiten: Number of dimensions that PCA-whitening keeps; None disables whitening.
        recall: Target recall@10, 0 to 1.
        memory: Maximum memory of a search, in bytes; None is unlimited.
        latency: Maximum time per query, in milliseconds; None lets ``auto`` use 10.
        rerank: Whether the best candidates are rescored exactly with the stores' rows; None does so
            if the index stores lossy codes.
        on_disk: Whether the inverted lists stay on disk, memory-mapped.
        train_rows: Number of training rows; None chooses by index type and memory.
        seed: Random seed.
    """

    factory: str = "auto"
    metric: Metric = "cosine"
    whiten: int | None = None
    recall: float = 0.95
    memory: int | None = None
    latency: float | None = None
    rerank: bool | None = None
    on_disk: bool = False
    train_rows: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.metric not in get_args(Metric):
            known = ", ".join(get_args(Metric))
            raise ValueError(f"metric must be one of {known}, not {self.metric!r}")
        if not self.factory:
            raise ValueError("factory must be auto or a faiss factory string")
        if not 0 < self.recall <= 1:
            raise ValueError(f"recall must be above 0 and at most 1, not {self.recall}")
        for name in ("whiten", "memory", "latency", "train_rows"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, not {value}")

    def to_config(self) -> dict[str, Any]:
        """A JSON-compatible dictionary; ``from_config`` reads it."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> IndexSpec:
        """Reads what ``to_config`` wrote.

        Raises:
            ValueError: A key is unknown, or a value out of its range.
        """
        unknown = set(config) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"no setting of an index: {', '.join(sorted(unknown))}")
        return cls(**config)
