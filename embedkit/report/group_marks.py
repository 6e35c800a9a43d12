"""How the groups of a map are told apart: each has a hue and a shape."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["GROUP_COLORS", "OTHER", "SHAPES", "GroupMark", "mark_of"]

GROUP_COLORS = (
    "#3b7dd8", "#e8811a", "#2fa14a", "#d9413f", "#8e5cc9", "#12a3a0", "#e05fa8", "#9a6240",
    "#9a9a1e", "#4bb3e6", "#b5278e", "#7cb518",
)  # fmt: skip
"""Hues; each is seen on both page colours."""

SHAPES = {
    "o": "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1 -1 0Z",
    "s": "M-.9 -.9H.9V.9H-.9Z",
    "^": "M0 -1.15L1.1 .85H-1.1Z",
    "D": "M0 -1.25L1.1 0L0 1.25L-1.1 0Z",
    "P": "M-.4 -1.15H.4V-.4H1.15V.4H.4V1.15H-.4V.4H-1.15V-.4H-.4Z",
    "v": "M0 1.15L1.1 -.85H-1.1Z",
    "X": "M-1.1 -.6L-.6 -1.1L0 -.5L.6 -1.1L1.1 -.6L.5 0L1.1 .6L.6 1.1L0 .5L-.6 1.1L-1.1 .6L-.5 0Z",
    "*": "M0 -1.35L.38 -.45L1.3 -.4L.6 .2L.82 1.1L0 .6L-.82 1.1L-.6 .2L-1.3 -.4L-.38 -.45Z",
}
"""matplotlib's names of the shapes, and their outlines as SVG paths of about unit radius."""


class GroupMark(NamedTuple):
    """The mark of a group's points.

    Attributes:
        color: As CSS writes it.
        shape: A name in ``SHAPES``.
        is_hollow: Whether only the outline is drawn.
    """

    color: str
    shape: str
    is_hollow: bool


OTHER = GroupMark("#9aa0a6", "o", is_hollow=False)
"""The mark of images without a group."""


def mark_of(number: int) -> GroupMark:
    """The mark of a group; the first 192 are distinct, and neighbours differ in hue and shape."""
    hues, shapes = len(GROUP_COLORS), tuple(SHAPES)
    turn, hue = divmod(number, hues)
    shape = shapes[(number + turn) % len(shapes)]
    return GroupMark(GROUP_COLORS[hue], shape, is_hollow=turn // len(shapes) % 2 == 1)
