"""The names of timm's models, from a stored list: importing timm takes seconds."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import version
from importlib.resources import files

from embedkit.errors import UnknownBackboneError

__all__ = ["check_timm_name", "near_timm_names", "timm_names"]

_LIST = "timm_names.txt"  # scripts/timm_names.py writes it


def check_timm_name(name: str) -> None:
    """Refuses a name that timm surely doesn't have.

    Args:
        name: timm's name, with or without the tag of the weights.

    Raises:
        UnknownBackboneError: Neither the stored list nor, as it isn't newer, the installed timm
            has it.
    """
    listed_in, names = _stored()
    if name not in names and _numbers(version("timm")) <= _numbers(listed_in):
        raise UnknownBackboneError(f"timm:{name}", near_timm_names(name))


def near_timm_names(name: str) -> list[str]:
    """Up to three of timm's names that look like this one, best first, each after ``timm:``."""
    near = difflib.get_close_matches(name, timm_names(), n=3, cutoff=0.6)
    return [f"timm:{match}" for match in near]


def timm_names() -> list[str]:
    """All names, sorted: of the architectures, and of each with a tag of its weights."""
    return sorted(_stored()[1])


@cache
def _stored() -> tuple[str, frozenset[str]]:
    """Timm's version, and its names."""
    release, *lines = files(__package__).joinpath(_LIST).read_text("utf-8").splitlines()
    names = set()
    for architecture, *tags in map(str.split, lines):
        names |= {architecture, *(f"{architecture}.{tag}" for tag in tags)}
    return release, frozenset(names)


def _numbers(release: str) -> tuple[int, ...]:
    """``(1, 0, 12)`` for ``1.0.12`` and for ``1.0.12.dev0``."""
    return tuple(int(part) for part in release.split(".")[:3] if part.isdigit())
