"""How a backbone is loaded, and what loading it finds out; nothing here needs torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedkit.backbones.pooling import Pooling
    from embedkit.backbones.spec import BackboneSpec
    from embedkit.decode.preprocessing import Preprocessing
    from embedkit.types import Head

__all__ = ["BackboneConfig", "BackboneMetadata"]


@dataclass(frozen=True, slots=True)
class BackboneConfig:
    """All that decides a backbone, its weights file apart.

    Attributes:
        spec: What the table, or timm, says of it.
        preprocessing: From an image to the pixels that the network takes.
        pooling: ``avg``, ``gem``, ``max`` or ``avg+max``.
        gem_p: Exponent of ``gem``.
        layers: Stages to pool and concatenate; empty for the last layer.
        flip: Whether features are averaged with those of the mirror image.
        seed: Of random weights; None for weights from a file.
    """

    spec: BackboneSpec
    preprocessing: Preprocessing
    pooling: Pooling
    gem_p: float
    layers: tuple[str, ...]
    flip: bool
    seed: int | None

    def to_config(self) -> dict[str, Any]:
        """List all of it in plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BackboneMetadata:
    """What only the built and loaded network can tell.

    Attributes:
        fingerprint: SHA-256 over the weights' tensors, 64 hex digits.
        feature_dim: D.
        head: The classifier; None where it is no linear layer.
        head_name: The classifier's place in the network; empty where there is no head.
    """

    fingerprint: str
    feature_dim: int
    head: Head | None
    head_name: str
