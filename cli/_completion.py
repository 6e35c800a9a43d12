"""What the shell offers as values of options, without importing a library that takes seconds."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["complete_backbone", "completing"]

_PREFIX = "timm:"


def complete_backbone(incomplete: str) -> list[str]:
    """The names of backbones that begin so; timm's once ``timm:`` stands there."""
    from embedkit.backbones.registry import BACKBONES
    from embedkit.backbones.timm_names import timm_names

    names = [*BACKBONES, _PREFIX]
    if incomplete.startswith(_PREFIX):
        names = [f"{_PREFIX}{name}" for name in timm_names()]
    return [name for name in names if name.startswith(incomplete)]


def completing(*values: str) -> Callable[[str], list[str]]:
    """Returns what completes an option with these usual values."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete
