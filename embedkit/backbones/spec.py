"""What is known of a backbone before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from embedkit.backbones.pooling import Pooling
    from embedkit.decode.preprocessing import Preprocessing

__all__ = ["BackboneSpec"]


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """What is known of a backbone before it is loaded.

    Attributes:
        name: The name it goes by (``resnet50_swsl``).
        timm_name: What timm builds it from (``resnet50.fb_swsl_ig1b_ft_in1k``); empty where it
            isn't a model of timm.
        arch: The architecture's name in timm (``resnet50``).
        supervision: What it was trained on.
        feature_dim: D, the length of its features by its own pooling.
        params_m: Parameters with the classifier, millions.
        params_backbone_m: Parameters without the classifier, millions.
        gmacs: Multiply-accumulates for one image of ``crop`` pixels, billions, as timm counts them:
            convolutions, linear layers, and two a value of each batch norm.
        paper_top1: ImageNet-1k accuracy that the paper reports, per cent.
        paper_top5: The same, top 5.
        timm_top1: ImageNet-1k accuracy that timm measured on the published file, per cent.
        timm_top5: The same, top 5.
        licence: SPDX name of the licence of the weights.
        sha8: First eight hex digits of the published file's SHA-256; empty where unknown.
        filename: Name of the published file; empty where there is none.
        url: Where the published file lies; empty where there is none.
        hub_id: Repository on the Hugging Face hub; empty where there is none.
        hub_filename: Name of the weights file in that repository.
        package: The Python package that carries the file; empty where none does.
        warning: What a user must know before relying on it; None where there is nothing.
        resize: Shorter side after the resize, pixels.
        crop: Side of the square that the network sees, pixels.
        interpolation: Filter of the resize.
        mean: Subtracted from the RGB values in [0, 1].
        std: Then divided by.
        crop_mode: How the square is taken.
        pooling: The network's own pooling, which its weights were trained with.
        projection: Whether a linear layer and a scaling to unit length follow that pooling.
        source: Where weights come from: a hub, its publisher's URL alone, a Python package, or
            none (random only).
    """

    name: str
    timm_name: str
    arch: str
    supervision: str
    feature_dim: int
    params_m: float
    params_backbone_m: float
    gmacs: float
    paper_top1: float | None = None
    paper_top5: float | None = None
    timm_top1: float | None = None
    timm_top5: float | None = None
    licence: str = "unknown"
    sha8: str = ""
    filename: str = ""
    url: str = ""
    hub_id: str = ""
    hub_filename: str = "model.safetensors"
    package: str = ""
    warning: str | None = None
    resize: int = 256
    crop: int = 224
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    crop_mode: Literal["center", "squash"] = "center"
    pooling: Pooling = "avg"
    projection: bool = False
    source: Literal["hub", "url", "package", "none"] = "hub"

    @property
    def cache_name(self) -> str:
        """Name that the hub's file gets in embedkit's own cache."""
        return f"{self.timm_name}{PurePosixPath(self.hub_filename).suffix}"

    def preprocessing(self) -> Preprocessing:
        """Build the preprocessing that the weights were trained with."""
        # Imported here: it needs numpy and Pillow, which listing the backbones does not.
        from embedkit.decode.preprocessing import Preprocessing

        return Preprocessing(
            resize=self.resize,
            crop=self.crop,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            crop_mode=self.crop_mode,
        )
