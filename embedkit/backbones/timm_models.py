"""Any other timm model, described as the table describes its own."""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from timm.models import get_pretrained_cfg

from embedkit.backbones.spec import BackboneSpec
from embedkit.backbones.timm_names import near_timm_names
from embedkit.errors import BackboneError, UnknownBackboneError

__all__ = ["timm_spec"]

_CROP_MODES = ("center", "squash")
_INTERPOLATIONS = ("bilinear", "bicubic", "lanczos")
_READABLE = (".pth", ".pt", ".bin", ".safetensors")


def timm_spec(name: str) -> BackboneSpec:
    """Describe a model by timm's own configuration of its weights.

    Args:
        name: timm's name, with or without the tag of the weights; without, timm's default weights.

    Returns:
        A spec whose counts (parameters, GMACs, feature dim) are 0: they are not known before the
        network is built.

    Raises:
        UnknownBackboneError: timm has no such model or tag.
        BackboneError: The weights want a preprocessing that embedkit doesn't do.
    """
    cfg = _config(name)
    crop = _square(name, cfg.input_size)
    filename = PurePosixPath(urlsplit(cfg.url or "").path).name
    # What timm converts while it reads (.npz, other projects' keys) can't be loaded as it is.
    readable = filename.endswith(_READABLE) and not cfg.custom_load
    sha8 = re.search(r"-([0-9a-f]{8})\.\w+$", filename)
    return BackboneSpec(
        name=f"timm:{_full_name(cfg)}",
        timm_name=_full_name(cfg),
        arch=cfg.architecture,
        supervision=f"timm's weights {cfg.tag or '(no tag)'}",
        feature_dim=0,
        params_m=0.0,
        params_backbone_m=0.0,
        gmacs=0.0,
        licence=cfg.license or "unknown",
        sha8=sha8[1] if readable and sha8 else "",
        filename=filename if readable else "",
        url=cfg.url if readable else "",
        hub_id=cfg.hf_hub_id or "",
        hub_filename=cfg.hf_hub_filename or "model.safetensors",
        resize=_resize(name, cfg, crop),
        crop=crop,
        interpolation=_supported(name, "interpolation", cfg.interpolation, _INTERPOLATIONS),
        mean=cfg.mean,
        std=cfg.std,
        crop_mode=cast(
            Literal["center", "squash"],
            _supported(name, "crop mode", cfg.crop_mode, _CROP_MODES),
        ),
    )


def _config(name: str) -> Any:
    try:
        cfg = get_pretrained_cfg(name)
    except RuntimeError:  # the architecture exists, the tag doesn't
        cfg = None
    if cfg is None:
        raise UnknownBackboneError(f"timm:{name}", near_timm_names(name))
    return cfg


def _full_name(cfg: Any) -> str:
    return f"{cfg.architecture}.{cfg.tag}" if cfg.tag else str(cfg.architecture)


def _square(name: str, input_size: tuple[int, int, int]) -> int:
    channels, height, width = input_size
    if channels != 3 or height != width:
        raise BackboneError(f"timm:{name}: takes {input_size}, embedkit feeds square RGB images")
    return height


def _resize(name: str, cfg: Any, crop: int) -> int:
    """Return the side before the crop, pixels, as timm's evaluation transform rounds it."""
    if cfg.crop_mode == "squash" and cfg.crop_pct != 1.0:
        raise BackboneError(f"timm:{name}: squashes and then crops, which embedkit doesn't do")
    return math.floor(crop / float(cfg.crop_pct))


def _supported(name: str, what: str, value: str, known: tuple[str, ...]) -> Any:
    if value not in known:
        raise BackboneError(f"timm:{name}: {what} {value!r} is none of {', '.join(known)}")
    return value
