"""What may be said of how a backbone is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from embedkit.decode.preprocessing import Preprocessing

__all__ = ["LoadOptions"]


class LoadOptions(TypedDict, total=False):
    """Keyword arguments that ``extract`` passes on to ``load_backbone``; all may be left out.

    Attributes:
        weights: ``auto``, ``random`` or a file.
        seed: Of random weights.
        pooling: ``avg``, ``gem``, ``max`` or ``avg+max``.
        gem_p: Exponent of ``gem``.
        layers: Stages to pool and concatenate.
        flip: Average with the features of the mirror image.
        input_size: Side of the image that the network sees, pixels.
        preprocessing: Another one, or the fields of the backbone's own to change.
    """

    weights: str | os.PathLike[str]
    seed: int
    pooling: Literal["avg", "gem", "max", "avg+max"]
    gem_p: float
    layers: Sequence[str]
    flip: bool
    input_size: int | None
    preprocessing: Preprocessing | Mapping[str, Any] | None
