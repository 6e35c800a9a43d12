"""How a backbone is loaded, and what loading it finds out; nothing here needs torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from embedkit.backbones.pooling import Pooling
    from embedkit.backbones.spec import BackboneSpec
    from embedkit.decode.preprocessing import Preprocessing
    from embedkit.types import Head

__all__ = ["BackboneConfig", "BackboneMetadata", "LoadConfig"]


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """The settings of ``load_backbone``, which describes them, besides the name.

    Attributes:
        weights: ``auto``, ``random`` or a file.
        seed: Seed of random weights.
        pooling: ``avg``, ``gem``, ``max`` or ``avg+max``.
        gem_p: Exponent of ``gem``.
        layers: Stages to pool and concatenate.
        flip: Whether to average with the features of the mirror image.
        input_size: Side of the image that the network sees, pixels.
        preprocessing: Another one, or the fields of the backbone's own to change.
    """

    weights: str | os.PathLike[str] = "auto"
    seed: int = 0
    pooling: Pooling = "avg"
    gem_p: float = 3.0
    layers: tuple[str, ...] = ()
    flip: bool = False
    input_size: int | None = None
    preprocessing: Preprocessing | Mapping[str, Any] | None = None

    @property
    def changed(self) -> list[str]:
        """The names of the settings that aren't the defaults."""
        default = type(self)()
        names = [field.name for field in fields(self)]
        return [name for name in names if getattr(self, name) != getattr(default, name)]

    def to_config(self) -> dict[str, Any]:
        """Plain values that JSON can hold; ``from_config`` reads them."""
        own = self.preprocessing
        plain = own if own is None or isinstance(own, Mapping) else own.to_config()
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "weights": os.fspath(self.weights), "preprocessing": plain}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The settings that ``to_config`` gave."""
        return cls(**{**config, "layers": tuple(config["layers"])})


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
