"""Published accuracies of a store's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.backbones import BACKBONES

if TYPE_CHECKING:
    from embedkit.store import StoreMeta

__all__ = ["published_accuracies"]


def published_accuracies(meta: StoreMeta) -> dict[str, tuple[float, float]]:
    """ImageNet-1k accuracies of a store's backbone, as the table of backbones has them.

    Args:
        meta: How the store was made.

    Returns:
        ``paper`` and ``timm`` (what timm measured on the published file), as far as they are
        known, each with top 1 and top 5, per cent; nothing for random weights.
    """
    spec = BACKBONES.get(meta.backbone)
    if spec is None or meta.weights.startswith("random"):
        return {}
    published = {
        "paper": (spec.paper_top1, spec.paper_top5),
        "timm": (spec.timm_top1, spec.timm_top5),
    }
    return {
        name: (top1, top5)
        for name, (top1, top5) in published.items()
        if top1 is not None and top5 is not None
    }
