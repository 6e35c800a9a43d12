"""Writes the names of timm's models to embedkit/backbones/: ``python scripts/timm_names.py``.

embedkit looks names up there, which takes no time; importing timm takes seconds.
"""

from pathlib import Path

import timm

TARGET = Path(__file__).parents[1] / "embedkit" / "backbones" / "timm_names.txt"


def listing() -> str:
    """The version of timm, then one line per architecture: its name and its weights' tags."""
    tags: dict[str, list[str]] = {name: [] for name in timm.list_models()}
    for name in timm.list_pretrained():
        architecture, _, tag = name.partition(".")
        tags.setdefault(architecture, []).append(tag)
    lines = (" ".join((name, *filter(None, sorted(tags[name])))) for name in sorted(tags))
    return "\n".join((timm.__version__, *lines, ""))


if __name__ == "__main__":
    TARGET.write_text(listing(), encoding="utf-8")
