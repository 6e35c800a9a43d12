"""Backbones: the table of known networks, their weights, and how to load one.

What loads backbones is imported when it is first asked for, so that looking a name up stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.backbones.registry import BACKBONES, find_spec, weights_on_disk
from embedkit.backbones.spec import BackboneSpec
from embedkit.types import Head

if TYPE_CHECKING:
    from embedkit.backbones.backbone import Backbone, load_backbone, load_configured

__all__ = [
    "BACKBONES",
    "Backbone",
    "BackboneSpec",
    "Head",
    "find_spec",
    "load_backbone",
    "load_configured",
    "weights_on_disk",
]

_LOADING = ("Backbone", "load_backbone", "load_configured")


def __getattr__(name: str) -> object:
    if name in _LOADING:
        from embedkit.backbones import backbone as network

        return getattr(network, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
