"""The table's part that was made for copy detection: the seven networks of SSCD.

Source: Pizzi, Dutta Roy, Nagavara Ravindra, Goyal, Douze 2022, "A Self-Supervised Descriptor for
Image Copy Detection", arXiv 2202.10261, published with their weights (MIT since July 2022) at
https://github.com/facebookresearch/sscd-copy-detection. No hash of the files is published.
"""

from __future__ import annotations

from embedkit.backbones.spec import BackboneSpec

__all__ = ["SSCD"]

_FILES = "https://dl.fbaipublicfiles.com/sscd-copy-detection"

# Name, what it was trained on, and how.
_RESNET50 = (
    ("sscd_disc_blur", "DISC", "strong blur"),
    ("sscd_disc_advanced", "DISC", "advanced edits"),
    ("sscd_disc_mixup", "DISC", "advanced edits and mixup"),
    ("sscd_imagenet_blur", "ImageNet", "strong blur"),
    ("sscd_imagenet_advanced", "ImageNet", "advanced edits"),
    ("sscd_imagenet_mixup", "ImageNet", "advanced edits and mixup"),
)


def _spec(
    name: str, data: str, edits: str, arch: str, layout: str, dim: int, params: float, gmacs: float
) -> BackboneSpec:
    """Spell out one network. It has no classifier, so both counts of parameters are one."""
    filename = f"{name}.{layout}.pt"
    return BackboneSpec(
        name=name,
        timm_name="",
        arch=arch,
        supervision=f"copy detection (SSCD): {data}, {edits}",
        feature_dim=dim,
        params_m=params,
        params_backbone_m=params,
        gmacs=gmacs,
        licence="MIT",
        filename=filename,
        url=f"{_FILES}/{filename}",
        # The publisher's square variant: stretched, not cropped, as a crop would hide a part.
        resize=320,
        crop=320,
        crop_mode="squash",
        pooling="gem",
        projection=True,
        source="url",
    )


SSCD = (
    *(_spec(*row, "resnet50", "torchvision", 512, 24.56, 8.39) for row in _RESNET50),
    # Published in Classy Vision's layout only.
    _spec(
        "sscd_disc_large", "DISC", "advanced edits and mixup", "resnext101_32x4d", "classy", 1024,
        44.23, 16.35,
    ),
)  # fmt: skip
"""The published networks: ResNet-50, 512 values; ResNeXt-101 32x4d, 1,024 values."""
